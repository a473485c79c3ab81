"""The report on a family on one test set, as one value. ``report.json`` is its content."""

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ..data.findings import THEMSELVES, LabelNames
from ..evaluation.cells import QueryResults
from ..evaluation.evaluator import evaluate_task
from ..evaluation.grid import CompatibilityGrid
from ..evaluation.refinement import Refinement
from ..evaluation.similarities import STEPS, SimilarityCounts, count_similarities
from ..evaluation.task import Cell, RetrievalTask
from .flips import Flip, best_match, negative_flips, worst_flips
from .mixed_gallery import MixedGallery, mix_galleries
from .verification import TARGETS, OperatingPoint, SharedThreshold, Verification, verify

FORMAT = 1
MAX_RANK = 50
WORST_QUERIES = 12
STEPS_PER_BIN = 200  # bins of 0.02

logger = logging.getLogger("fastreid.switchablecompat.evaluation")


@dataclass(frozen=True)
class LabelledImage:
    """A query or gallery image: its file, a name to show, identity and camera."""

    path: str
    name: str
    pid: int
    camid: int


@dataclass(frozen=True)
class LostQuery:
    """A negative flip with the query's items at rank 1: in its self-test (right) and in the cross-test (wrong)."""

    flip: Flip
    query: LabelledImage
    alone: LabelledImage
    crossed: LabelledImage


@dataclass(frozen=True, eq=False)
class FamilyReport:
    """A family's behaviour on one test set.

    Attributes:
        grid, queries: its compatibility grid, with provenance, and the results of each query in each cell.
        items: images of the queries, in order.
        cmc, counts: ``CMC(1), ...`` of each defined cell, in per cent, and the similarities of its pairs.
        verifications: one per target FAR, the highest FAR first.
        flips, lost: shares of negative flips, ``[m][m]`` in per cent, and the worst of them.
        mixed_gallery: None if a cell that it needs is not defined, or there is only one sub-model.
        labels: names of identities and cameras for readers.
    """

    grid: CompatibilityGrid
    queries: QueryResults
    items: Sequence[LabelledImage]
    cmc: Mapping[Cell, np.ndarray]
    counts: Mapping[Cell, SimilarityCounts]
    verifications: Sequence[Verification]
    flips: list[list[float | None]]
    lost: Sequence[LostQuery]
    mixed_gallery: MixedGallery | None
    labels: LabelNames = THEMSELVES

    def cell_name(self, cell: Cell) -> str:
        """``query/gallery``, such as ``w025/w100``."""
        return f"{self.grid.names[cell[0]]}/{self.grid.names[cell[1]]}"

    def to_dict(self) -> dict[str, Any]:
        """The content of ``report.json``, as plain values."""
        histograms = {self.cell_name(cell): counts.histogram(STEPS_PER_BIN) for cell, counts in self.counts.items()}
        return {
            "format": FORMAT,
            "cells": "query/gallery",
            "grid": self.grid.to_dict(),
            "cmc": {self.cell_name(cell): curve.tolist() for cell, curve in self.cmc.items()},
            "histograms": {
                "bin_width": STEPS_PER_BIN / STEPS,
                "lower_edges": next(iter(histograms.values()))[0].tolist(),
                "pairs": {
                    name: {"genuine": genuine.tolist(), "impostor": impostor.tolist()}
                    for name, (_, genuine, impostor) in histograms.items()
                },
            },
            "verification": [self._verification(one) for one in self.verifications],
            "negative_flips": {
                "rows": "query",
                "columns": "gallery",
                "per_cent": self.flips,
                "worst": [
                    {
                        "query": one.query.name,
                        "cell": self.cell_name((one.flip.q, one.flip.g)),
                        "first_hit_rank": one.flip.rank,
                        "rank_1_alone": one.alone.name,
                        "rank_1_crossed": one.crossed.name,
                    }
                    for one in self.lost
                ],
            },
            "mixed_gallery": self.mixed_gallery and asdict(self.mixed_gallery),
        }

    def _verification(self, one: Verification) -> dict[str, Any]:
        def shared(threshold: SharedThreshold) -> dict[str, Any]:
            worst = {"highest_FAR": threshold.highest_far, "lowest_TAR": threshold.lowest_tar}
            return {
                "threshold": threshold.threshold,
                "reason": threshold.reason or None,
                **{key: cell and self.cell_name(cell) for key, cell in worst.items()},
                "cells": {self.cell_name(cell): _point(point) for cell, point in threshold.points.items()},
            }

        return {
            "target_FAR": one.target,
            "own": {self.cell_name(cell): _point(point) for cell, point in one.own.items()},
            "pooled": shared(one.pooled),
            "strictest": shared(one.strictest),
        }


def build_report(
    task: RetrievalTask,
    images: Sequence[tuple[str, int, int]],
    *,
    refinement: Refinement | None = None,
    labels: LabelNames = THEMSELVES,
) -> FamilyReport:
    """Measure a family.

    ``images`` are file, identity and camera of the queries, then of the gallery items; ``labels`` are the names of the
    identities and cameras for readers. For ``refinement`` see :func:`~..evaluation.evaluator.evaluate_task`.
    """
    grid, queries = evaluate_task(task, refinement)
    logger.info("Grid done; similarities of all pairs")
    counts = {(q, g): count_similarities(task.query[q], task.gallery[g], task.matches) for q, g in task.cells}
    names = short_names([path for path, *_ in images])
    shown = [LabelledImage(path, name, pid, camid) for name, (path, pid, camid) in zip(names, images, strict=True)]

    def lost(flip: Flip) -> LostQuery:
        query = task.query[flip.q][flip.query]
        sides = ((flip.q, True), (flip.g, False))
        best = [best_match(flip.query, query, task.gallery[g], task.matches, right=right) for g, right in sides]
        return LostQuery(flip, shown[flip.query], *(shown[task.matches.num_queries + item] for item in best))

    return FamilyReport(
        grid,
        queries,
        shown[: task.matches.num_queries],
        cmc={cell: queries.cmc(cell, min(MAX_RANK, task.matches.num_gallery)) for cell in task.cells},
        counts=counts,
        verifications=[verify(counts, target) for target in TARGETS],
        flips=negative_flips(queries.first_hit_rank, queries.defined),
        lost=[lost(flip) for flip in worst_flips(queries.first_hit_rank, queries.defined, WORST_QUERIES)],
        mixed_gallery=mix_galleries(task),
        labels=labels,
    )


def short_names(paths: Sequence[str]) -> list[str]:
    """File names without the folders that all share. Bytes that cannot be printed are replaced."""
    absolute = [os.path.abspath(path) for path in paths]
    common = os.path.commonpath([os.path.dirname(path) for path in absolute])
    names = (os.path.relpath(path, common).replace(os.sep, "/") for path in absolute)
    return [os.fsencode(name).decode("utf-8", "backslashreplace") for name in names]


def _point(point: OperatingPoint) -> dict[str, Any]:
    reason = {"reason": point.reason} if point.reason else {}
    return {"threshold": point.threshold, "TAR": point.tar, "FAR": point.far, **reason}
