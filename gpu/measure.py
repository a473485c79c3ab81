"""The parts' common imports from the benchmarks."""

from __future__ import annotations

import switchablecompat  # noqa: F401  (before anything of FastReID)

# isort: split
from collections.abc import Sequence
from typing import Any

from benchmarks.report import record
from benchmarks.timing import Row, compare, compare_once, interleave
from benchmarks.training_step import IdealStep, SwitchableStep, changed, load, random_batch

__all__ = [
    "IdealStep",
    "Row",
    "SwitchableStep",
    "benchmark_record",
    "changed",
    "compare",
    "compare_once",
    "interleave",
    "load",
    "random_batch",
]


def benchmark_record(name: str, settings: dict[str, Any], rows: Sequence[Row], **more: Any) -> dict[str, Any]:
    """The content of a benchmark's JSON in the form that ``tools/update_docs.py`` reads."""
    return record(name, "make gpu", settings, rows, **more)
