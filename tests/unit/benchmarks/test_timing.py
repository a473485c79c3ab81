import os
import time
from concurrent.futures.process import BrokenProcessPool

import numpy as np
import pytest
import torch

from benchmarks.report import record, render
from benchmarks.timing import compare, compare_once, in_fresh_process, interleave, peak_memory


def test_rounds_are_interleaved_and_alternate():
    calls = []
    tasks = {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}
    seconds = interleave(tasks, 3, warm_up=1)
    assert calls[0::2] != calls[1::2]
    assert ["".join(sorted(calls[i : i + 2])) for i in range(0, 8, 2)] == ["ab"] * 4
    assert {tuple(calls[i : i + 2]) for i in range(0, 8, 2)} == {("a", "b"), ("b", "a")}
    assert {name: len(times) for name, times in seconds.items()} == {"a": 3, "b": 3}


def test_a_sleep_takes_as_long_as_it_says():
    seconds = interleave({"long": lambda: time.sleep(0.02)}, 2)
    assert (seconds["long"] >= 0.02).all()


def test_the_ratio_is_the_median_of_the_rounds_quotients():
    row = compare("n", {"ours": np.array([2.0, 30.0, 3.0]), "peer": np.array([1.0, 10.0, 2.0])}, "ours", "peer", 1.5)
    assert (row.ratio, row.low, row.high) == (2.0, 1.75, 2.5)  # of 2, 3, 1.5
    assert (row.ours, row.theirs, row.target) == (3.0, 2.0, 1.5)


def allocate(mib):
    with peak_memory() as peak:
        kept = torch.ones(mib * 2**20 // 4)
        kept.sum()
    return peak.mib


def test_peak_memory_sees_an_allocation():
    assert in_fresh_process(allocate, 200) == pytest.approx(200, abs=10)


@pytest.mark.timeout(60)
def test_the_end_of_a_fresh_process_is_an_error_and_not_a_wait():
    with pytest.raises(BrokenProcessPool):
        in_fresh_process(os._exit, 3)


def test_the_table_has_every_figure():
    rows = [
        compare("step", {"a": np.full(4, 0.5), "b": np.full(4, 2.0)}, "a", "b", 1.1, "limit"),
        compare_once("memory", 30.0, "limit", 20.0, unit="MiB"),
    ]
    text = render([record("x", "command", {}, rows)])
    assert "| step | 500.0 ms | limit | 2.00 s | **0.250** | ≤ 1.1 |" in text
    assert "| memory | 30.00 MiB | limit | 20.00 MiB | **1.500** |  |" in text
