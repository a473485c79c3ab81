"""The models that a command line names for evaluation."""

import argparse
import os

from ..engine.screen import show_own_lines
from ..engine.trained_task import TrainedTask, open_task
from ..errors import InputError
from ..modeling.opened import Source
from ..widths import width_name


def read_sources(arguments: argparse.Namespace) -> list[Source]:
    """The models that the command line names, the switchable one first."""
    sources = [Source(arguments.config_file, arguments.weights)] if arguments.weights else []
    for text in arguments.model:
        width, separator, folder = text.partition("=")
        if not separator or not os.path.isdir(folder):
            raise InputError("--model", "must be WIDTH=RUN_DIR with an existing folder", text)
        sources.append(Source.of_run(folder, read_width(width, "--model", text)))
    return sources


def open_evaluation(arguments: argparse.Namespace, *opts: str) -> TrainedTask:
    """Run the models that the command line names on their test set, with further config keys ``opts``."""
    undefined = []
    for text in arguments.undefined:
        if text.count(",") != 1:
            raise InputError("--undefined", "must be QUERY,GALLERY widths, such as 1.0,1.0", text)
        undefined.append(tuple(read_width(width, "--undefined", text) for width in text.split(",")))
    sources = read_sources(arguments)
    show_own_lines()
    return open_task(
        sources,
        [*arguments.opts, *opts],
        dataset=arguments.dataset,
        method=arguments.method,
        undefined=undefined,
        diagonal_only=arguments.diagonal_only,
    )


def read_width(text: str, option: str, found: str) -> float:
    try:
        width_name(float(text))
    except ValueError:
        raise InputError(option, "must have width multipliers in (0, 1]", found) from None
    return float(text)
