"""Comparable latencies, measured in turns so that a busy moment of the machine affects all candidates alike.

Also the common parts of profiles: the number of threads, the setting of the measurement, their tables.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from tabulate import tabulate

from ...modeling.opened import OpenedModel
from ...provenance import hardware, versions
from ...settings import preprocessing_of
from ..files.export import packages
from ..images import input_size

Key = TypeVar("Key")


@dataclass(frozen=True)
class Timing:
    """Latency of one call over the repeats, in milliseconds: median, first (``low``) and third quartile (``high``).

    ``relative`` is the median, over the repeats, of this latency divided by the reference's in the same repeat.
    """

    median: float
    low: float
    high: float
    relative: float

    @classmethod
    def of(cls, seconds: Sequence[float], reference: Sequence[float]) -> Timing:
        """Summarise the repeats of a call, relative to a reference in the same repeats."""
        low, median, high = (1000 * float(value) for value in np.percentile(seconds, (25, 50, 75)))
        return cls(median, low, high, float(np.median(np.divide(seconds, reference))))


def take_turns(
    calls: Mapping[Key, Callable[[], object]],
    repeats: int,
    *,
    say: Callable[[str], None] = lambda _: None,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[Key, list[float]]:
    """Time each call once per repeat, one after the other.

    Directly before its timed run, each call runs once untimed, so that its weights are in the cache as in steady use.
    About every 20 seconds ``say`` gets a line on the progress.

    Returns:
        Seconds of each call in every repeat.
    """
    seconds: dict[Key, list[float]] = {key: [] for key in calls}
    begun = told = time.perf_counter()
    for repeat in range(repeats):
        for key, call in calls.items():
            call()
            start = clock()
            call()
            seconds[key].append(clock() - start)
        now = time.perf_counter()
        if now - told > 20:
            told = now
            left = (now - begun) / (repeat + 1) * (repeats - repeat - 1)
            say(f"repeat {repeat + 1}/{repeats}, about {left:.0f} s left")
    return seconds


@contextmanager
def threads(count: int) -> Iterator[None]:
    """In this block, PyTorch and newly opened sessions of onnxruntime use ``count`` threads."""
    former = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(former)


def measured_on(model: OpenedModel) -> dict[str, Any]:
    """The model, the package versions and the machine, for a profile."""
    return {
        "input_size": list(input_size(preprocessing_of(model.cfg))),
        "family": model.family if model.weights else None,
        **{key: model.record[key] for key in ("method", "seed", "config")},
        "versions": {**versions(), **packages("onnx")},
        "hardware": hardware(),
    }


def markdown(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table whose first column holds text and whose others hold numbers."""
    align = ["left", *["right"] * (len(headers) - 1)]
    return tabulate(rows, headers, tablefmt="github", disable_numparse=True, colalign=align)
