"""Interleaved repeats, ratios with their spread, and the peak memory of a process."""

import gc
import multiprocessing
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.benchmark import timer


@dataclass(frozen=True)
class Row:
    """One line of the table: a measurement of ours, compared with a peer."""

    name: str
    ours: float  # median, in ``unit``
    peer: str
    theirs: float
    ratio: float  # ours / theirs: median over the repeats
    low: float  # and quartiles
    high: float
    unit: str = "s"  # or MiB
    target: float | None = None  # upper limit for the ratio, if any


def interleave(tasks: Mapping[str, Callable[[], object]], repeats: int, *, warm_up: int = 1) -> dict[str, np.ndarray]:
    """Time every task once per round, in alternating order, so that a drift of the machine affects all alike.

    The result of a task is deleted before the next one starts. Before the timed rounds are ``warm_up`` untimed ones.

    Returns:
        Seconds of every round, ``[repeats]``, by name.
    """
    seconds: dict[str, list[float]] = {name: [] for name in tasks}
    for turn in range(-warm_up, repeats):
        for name in list(tasks)[:: 1 if turn % 2 else -1]:
            gc.collect()
            start = timer()  # waits for the GPU if there is one
            result = tasks[name]()
            elapsed = timer() - start
            del result
            if turn >= 0:
                seconds[name].append(elapsed)
    return {name: np.array(times) for name, times in seconds.items()}


def compare(
    name: str, seconds: Mapping[str, np.ndarray], ours: str, peer: str, target: float | None = None, label: str = ""
) -> Row:
    """The ratio of two tasks of one :func:`interleave`, round by round. ``label`` names the peer in the table."""
    quotient = seconds[ours] / seconds[peer]
    low, middle, high = np.quantile(quotient, (0.25, 0.5, 0.75))
    medians = (float(np.median(seconds[task])) for task in (ours, peer))
    return Row(name, next(medians), label or peer, next(medians), float(middle), float(low), float(high), "s", target)


def compare_once(name: str, ours: float, peer: str, theirs: float, target: float | None = None, unit: str = "s") -> Row:
    """The ratio of two amounts that were measured once."""
    return Row(name, ours, peer, theirs, ours / theirs, ours / theirs, ours / theirs, unit, target)


def in_fresh_process(function: Callable[..., Any], *args: Any) -> Any:
    """Run ``function(*args)`` in a new interpreter with fresh memory, and return its result."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *args).result()


class Peak:
    """Highest memory during a block above the memory at its start, in MiB; see :func:`peak_memory`."""

    mib: float = float("nan")


@contextmanager
def peak_memory(device: str = "cpu") -> Iterator[Peak]:
    """Measure the extra memory of a block: of the process (Linux), or of the GPU's allocator.

    Freed memory that the C library keeps can hide an allocation. If that matters, measure in a fresh process.
    """
    peak = Peak()
    gc.collect()
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        yield peak
        peak.mib = (torch.cuda.max_memory_allocated() - before) / 2**20
        return
    Path("/proc/self/clear_refs").write_text("5")  # resets the high-water mark to the memory resident now
    before = _status("VmRSS")
    yield peak
    peak.mib = (_status("VmHWM") - before) / 1024


def _status(key: str) -> int:
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status[key].split()[0])  # kB
