"""Comparable latencies, measured in turns so that a busy moment affects all candidates alike; parts of all profiles."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
import torch
from tabulate import tabulate
from tqdm import tqdm

from ...modeling.opened import OpenedModel
from ...provenance import hardware, versions
from ...settings import preprocessing_of
from ..files.export import packages
from ..images import input_size

Key = TypeVar("Key")


def latency(seconds: Sequence[float], reference: Sequence[float]) -> dict[str, float]:
    """Latency of one call over the repeats, in milliseconds: median, first (``low``) and third quartile (``high``).

    ``relative`` is the median, over the repeats, of this latency divided by the reference's in the same repeat.
    """
    low, median, high = (1000 * float(value) for value in np.percentile(seconds, (25, 50, 75)))
    relative = float(np.median(np.divide(seconds, reference)))
    return {"median": median, "low": low, "high": high, "relative": relative}


def take_turns(
    calls: Mapping[Key, Callable[[], object]], repeats: int, *, clock: Callable[[], float] = time.perf_counter
) -> dict[Key, list[float]]:
    """Time each call once per repeat, one after the other; return the seconds of each call in every repeat.

    Directly before its timed run, each call runs once untimed, so that its weights are in the cache as in steady use.
    """
    seconds: dict[Key, list[float]] = {key: [] for key in calls}
    for _ in tqdm(range(repeats), desc=f"Timing {len(calls)} combinations", unit="repeat"):
        for key, call in calls.items():
            call()
            start = clock()
            call()
            seconds[key].append(clock() - start)
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
