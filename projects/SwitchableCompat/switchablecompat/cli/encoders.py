"""The model and the images of a command line, for all commands that encode images."""

import argparse
import os
from typing import Any

import torch

from ..choices import FULL
from ..deploy.encoder import Encoder
from ..deploy.files.opening import open_encoder
from ..deploy.image_list import LabelledImage, items_of_dataset, items_of_paths
from ..errors import name_some
from ..modeling.opened import OpenedModel, open_model


def read_encoder(arguments: argparse.Namespace) -> Encoder:
    if arguments.model:
        return open_encoder(arguments.model, precision=arguments.precision)
    own = f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if torch.cuda.is_available() else "cpu"
    options = {"config_file": arguments.config_file, "device": arguments.device or own}
    return open_encoder(arguments.weights, arguments.width, precision=arguments.precision, **options)


def open_to_export(arguments: argparse.Namespace) -> OpenedModel:
    """A run's model on the CPU and in float32, whatever its config says: files are compared with its features."""
    fixed = ["MODEL.DEVICE", "cpu", "TEST.PRECISION", FULL]
    return open_model(arguments.weights, arguments.config_file, [*arguments.opts, *fixed])


def reading_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """How images are read: options of :func:`~..deploy.encoder.encode`."""
    return {"batch_size": arguments.batch_size, "workers": arguments.workers}


def read_items(arguments: argparse.Namespace, split: str) -> tuple[list[LabelledImage], str]:
    """The images that the command line names, and a name for them."""
    if arguments.images:
        return items_of_paths(arguments.images), name_some(arguments.images, 1)
    return items_of_dataset(arguments.dataset, split, arguments.manifest), f"{split} of {arguments.dataset}"
