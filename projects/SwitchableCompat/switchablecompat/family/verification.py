"""One-to-one verification at a fixed false accept rate: one threshold per cell, and one for the whole family.

A pair of :mod:`~switchablecompat.evaluation.similarities` is accepted iff its similarity is at or above the threshold
``t``. ``FAR(t)`` is the share of the impostor pairs that are accepted, and ``TAR(t)`` that of the genuine pairs. The
threshold at a target FAR is the smallest ``t`` of four decimals with ``FAR(t) <= target``. FastReID's own ``TPR@FPR``
is not used, because it swaps the two kinds of pairs.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ..errors import InputError
from ..evaluation.similarities import STEPS, SimilarityCounts
from ..evaluation.task import Cell

TARGETS = (1e-2, 1e-3, 1e-4)
ACCEPTED_IMPOSTORS = 10  # if the target accepts fewer, the result is mostly chance


@dataclass(frozen=True)
class OperatingPoint:
    """The effect of one threshold of four decimals in one cell. Without a threshold all are None; see ``reason``.

    TAR is in per cent, FAR in [0, 1].
    """

    threshold: float | None
    tar: float | None
    far: float | None
    reason: str = ""


@dataclass(frozen=True)
class MeasuredPoint(OperatingPoint):
    """An operating point whose threshold exists."""

    threshold: float
    tar: float
    far: float

    @classmethod
    def of(cls, counts: SimilarityCounts, threshold: float) -> MeasuredPoint:
        """TAR and FAR of a threshold of four decimals."""
        step = round(threshold * STEPS) + STEPS
        tar = 100.0 * int(counts.genuine[step:].sum()) / counts.num_genuine
        return cls(threshold, tar, int(counts.impostor[step:].sum()) / counts.num_impostor)


@dataclass(frozen=True)
class SharedThreshold:
    """One threshold for all cells, and its effect in each defined cell. Without one it is None; see ``reason``."""

    threshold: float | None
    points: Mapping[Cell, MeasuredPoint]
    reason: str = ""

    @classmethod
    def of(cls, cells: Mapping[Cell, SimilarityCounts], threshold: float) -> SharedThreshold:
        """Measure a threshold in all cells."""
        return cls(threshold, {cell: MeasuredPoint.of(pairs, threshold) for cell, pairs in cells.items()})

    @property
    def highest_far(self) -> Cell | None:
        """The cell that accepts the largest share of its impostors."""
        return max(self.points, key=lambda cell: self.points[cell].far) if self.points else None

    @property
    def lowest_tar(self) -> Cell | None:
        """The cell that accepts the smallest share of its genuine pairs."""
        return min(self.points, key=lambda cell: self.points[cell].tar) if self.points else None


@dataclass(frozen=True)
class Verification:
    """All cells at the FAR ``target`` that thresholds must keep: each at its ``own`` threshold, and at shared ones.

    ``pooled`` keeps the target on the impostor pairs of all cells together, that is on average; single cells may accept
    more or fewer. ``strictest`` is the largest of the cells' own thresholds, which keeps the target in every cell.
    """

    target: float
    own: Mapping[Cell, OperatingPoint]
    pooled: SharedThreshold
    strictest: SharedThreshold


def verify(cells: Mapping[Cell, SimilarityCounts], target: float) -> Verification:
    """Choose the thresholds for a target FAR, and measure them in every cell.

    ``cells`` are the counts of the pairs of each defined cell ``(q, g)``, at least one; ``target`` is in (0, 1).
    """
    if not 0.0 < target < 1.0:
        raise InputError("target FAR", "must be in (0, 1)", target)
    own = {cell: own_point(pairs, target) for cell, pairs in cells.items()}
    if missing := next((point.reason for point in own.values() if point.reason), ""):
        nowhere = SharedThreshold(None, {}, missing)
        return Verification(target, own, nowhere, nowhere)
    pooled, _ = threshold_at(functools.reduce(operator.add, cells.values()), target)
    assert pooled is not None  # it exists if each cell has a threshold
    strictest = max(point.threshold for point in own.values() if point.threshold is not None)
    return Verification(target, own, *(SharedThreshold.of(cells, threshold) for threshold in (pooled, strictest)))


def threshold_at(counts: SimilarityCounts, target: float) -> tuple[float | None, str]:
    """The smallest threshold of four decimals with ``FAR <= target``, or None and the reason."""
    needed = round(ACCEPTED_IMPOSTORS / target)
    if counts.num_impostor < needed:
        return None, f"{counts.num_impostor} impostor pairs are too few for FAR {target:g}, which needs {needed}"
    accepted = np.cumsum(counts.impostor[::-1])[::-1]  # impostor pairs at or above each step
    keeps = np.flatnonzero(accepted / counts.num_impostor <= target)
    if not len(keeps):
        return None, f"even a similarity of 1 accepts more impostor pairs than FAR {target:g}"
    return (int(keeps[0]) - STEPS) / STEPS, ""


def own_point(counts: SimilarityCounts, target: float) -> OperatingPoint:
    """A cell at its own threshold, or a point with the reason why there is none."""
    threshold, reason = threshold_at(counts, target)
    return OperatingPoint(None, None, None, reason) if threshold is None else MeasuredPoint.of(counts, threshold)
