"""What the tools of galleries have in common: which sub-model encodes, and which images."""

from __future__ import annotations

import startup  # before torch is loaded

# isort: split
import argparse
import os
import sys

import torch

from model_arguments import CONFIG_HELP

try:
    import pyarrow  # noqa: F401  # before the modules that need it
except ImportError:
    print("error: pyarrow is needed for galleries: pip install '.[deploy]'", file=sys.stderr)
    sys.exit(2)
from switchablecompat.deploy.encoder import Encoder
from switchablecompat.deploy.files.opening import open_encoder
from switchablecompat.deploy.image_list import LabelledImage, items_of_dataset, items_of_paths
from switchablecompat.errors import InputError, name_some
from switchablecompat.evaluation.precision import FULL, PRECISIONS


def add_encoder(parser: startup.Parser) -> None:
    """An exported sub-model, or one of a trained run; how it reads images."""
    parser.add_argument("--model", metavar="PATH", help="an exported sub-model: its folder, model file or model.json")
    parser.add_argument("--weights", metavar="W", help="or the checkpoint of a switchable run,")
    parser.add_argument("--width", type=float, metavar="X", help="and which of its sub-models to take")
    parser.add_argument("--config-file", default="", metavar="F", help=CONFIG_HELP)
    parser.add_argument("--device", help="for a run (default: cuda if there is a GPU, else cpu)")
    parser.add_argument(
        "--precision",
        choices=PRECISIONS,
        default=FULL,
        help="what a run or a checkpoint computes in (default float32; float16 on a GPU only)",
    )
    parser.add_argument("--batch-size", type=positive, default=64, metavar="N", help="images at a time (default 64)")
    parser.add_argument("--workers", type=positive, default=2, metavar="N", help="threads that read (default 2)")


def add_images(parser: startup.Parser) -> None:
    """Files and folders, or a data set."""
    parser.add_argument("--images", nargs="+", metavar="PATH", help="image files, or folders with images in or below")
    parser.add_argument("--dataset", metavar="NAME", help="or a data set of FastReID, below $FASTREID_DATASETS")
    parser.add_argument("--manifest", default="", metavar="CSV", help="of the data set ManifestReID")


def positive(text: str, least: int = 1) -> int:
    """A whole number of at least one."""
    if not text.isdecimal() or int(text) < least:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least {least}, found {text!r}")
    return int(text)


def natural(text: str) -> int:
    """A whole number of at least zero."""
    return positive(text, least=0)


def read_encoder(arguments: argparse.Namespace) -> Encoder:
    """The sub-model that the command line names."""
    run = (arguments.weights, arguments.width)
    if arguments.model and run == (None, None) and not arguments.config_file:
        return open_encoder(arguments.model, precision=arguments.precision)
    if arguments.model or None in run:
        raise InputError("command line", "must have --model, or --weights with --width (see --help)")
    return open_encoder(
        *run,
        config_file=arguments.config_file,
        device=arguments.device or default_device(),
        precision=arguments.precision,
    )


def default_device() -> str:
    """A GPU of this process's own, if there is one."""
    return f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if torch.cuda.is_available() else "cpu"


def read_items(arguments: argparse.Namespace, split: str) -> tuple[list[LabelledImage], str]:
    """The images that the command line names, and what to call them."""
    if bool(arguments.images) == bool(arguments.dataset):
        raise InputError("command line", "must have --images or --dataset (see --help)")
    if arguments.images:
        return items_of_paths(arguments.images), name_some(arguments.images, 1)
    return items_of_dataset(arguments.dataset, split, arguments.manifest), f"{split} of {arguments.dataset}"
