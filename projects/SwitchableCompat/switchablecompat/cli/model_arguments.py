"""Which models a tool evaluates: the options that cross_test.py and report.py share, and what they mean."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence

import startup
from switchablecompat.errors import InputError
from switchablecompat.modeling.opened import Source
from switchablecompat.widths import width_name

CONFIG_HELP = "its config (default: what the checkpoint keeps, or config.yaml beside it)"


def add_model_arguments(parser: startup.Parser) -> None:
    """Add the options."""
    parser.add_argument("--weights", metavar="W", help="checkpoint of a switchable model: all its widths take part")
    parser.add_argument("--config-file", default="", metavar="F", help=CONFIG_HELP)
    parser.add_argument(
        "--model",
        action="append",
        default=[],
        metavar="WIDTH=RUN_DIR",
        help="sub-model of this width from a training run (model_final.pth there); may be repeated",
    )
    parser.add_argument("--output", required=True, metavar="DIR", help="folder for the files")
    parser.add_argument("--dataset", default="", metavar="NAME", help="evaluate on this one (default: first config's)")
    parser.add_argument("--method", default="", metavar="NAME", help="name to record (default: from the configs)")
    parser.add_argument(
        "--undefined",
        action="append",
        default=[],
        metavar="QUERY,GALLERY",
        help="widths of a cell that the method does not define, printed '-'; may be repeated",
    )
    parser.add_argument("--diagonal-only", action="store_true", help="self-tests only: models that share no space")
    parser.add_argument("opts", nargs="*", metavar="KEY VALUE", help="config keys to override in every config")


def parse_model_arguments(parser: startup.Parser, argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line of a parser with the options of :func:`add_model_arguments`."""
    arguments = parser.parse_intermixed_args(argv)
    if arguments.config_file and not arguments.weights:
        parser.error("--config-file needs --weights")
    if not arguments.weights and not arguments.model:
        parser.error("--weights or --model must be given")
    return arguments


def read_sources(arguments: argparse.Namespace) -> list[Source]:
    """The models that the command line names, the switchable one first."""
    sources = [Source(arguments.config_file, arguments.weights)] if arguments.weights else []
    for text in arguments.model:
        width, separator, folder = text.partition("=")
        if not separator or not os.path.isdir(folder):
            raise InputError("--model", "must be WIDTH=RUN_DIR with an existing folder", text)
        sources.append(Source.of_run(folder, read_width(width, "--model", text)))
    return sources


def read_pairs(texts: Sequence[str]) -> list[tuple[float, float]]:
    """The undefined cells as (query width, gallery width)."""
    pairs = []
    for text in texts:
        widths = text.split(",")
        if len(widths) != 2:
            raise InputError("--undefined", "must be QUERY,GALLERY widths, such as 1.0,1.0", text)
        query, gallery = (read_width(width, "--undefined", text) for width in widths)
        pairs.append((query, gallery))
    return pairs


def read_width(text: str, option: str, found: str) -> float:
    """A width multiplier."""
    try:
        width_name(float(text))
    except ValueError:
        raise InputError(option, "must have width multipliers in (0, 1]", found) from None
    return float(text)
