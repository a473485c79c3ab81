"""The models that a command line names for evaluation."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from typing import Any

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


def evaluation_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """Keyword arguments of :func:`~..engine.trained_task.open_task` that the command line gives."""
    return {
        "sources": read_sources(arguments),
        "undefined": read_pairs(arguments.undefined),
        "opts": arguments.opts,
        "dataset": arguments.dataset,
        "method": arguments.method,
        "diagonal_only": arguments.diagonal_only,
    }


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
    """Parse a width multiplier."""
    try:
        width_name(float(text))
    except ValueError:
        raise InputError(option, "must have width multipliers in (0, 1]", found) from None
    return float(text)
