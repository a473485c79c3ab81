"""Everything that is worth knowing of a family on one test set, as one value; ``report.json`` is its content."""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from ..data.findings import THEMSELVES, LabelNames
from .cells import QueryResults
from .cmc import cmc_curve
from .cross_test import Member, cross_test
from .flips import Flip, best_match, worst_flips
from .grid import Cell, CompatibilityGrid
from .mixed_gallery import SHARES, isolated_first, mixed_gallery_map, random_order
from .ranking import ProtocolMatches
from .refinement import Refinement
from .similarities import STEPS, SimilarityCounts, count_similarities
from .statistics import negative_flips
from .verification import TARGETS, OperatingPoint, SharedThreshold, Verification, verify

FORMAT = 1
MAX_RANK = 50
WORST_QUERIES = 12
RANDOM_ORDERS = 3
STEPS_PER_BIN = 200  # bins of 0.02

logger = logging.getLogger("fastreid.switchablecompat.evaluation")


@dataclass(frozen=True)
class Item:
    """A query or gallery image: its file as opened, a name to show, identity and camera."""

    path: str
    name: str
    pid: int
    camid: int


@dataclass(frozen=True)
class LostQuery:
    """A negative flip with what the query found at rank 1: alone (right), and in the cross-test (wrong)."""

    flip: Flip
    query: Item
    alone: Item
    crossed: Item


@dataclass(frozen=True)
class Rehearsal:
    """mAP while the smallest sub-model's gallery is re-encoded by the largest; see :mod:`~.mixed_gallery`.

    Attributes:
        old: name of the sub-model that the gallery starts with.
        new: name of the one that it ends with.
        shares: of the gallery that is re-encoded, in per cent.
        random: by name of the query sub-model, one curve for each random order (seeds 0, 1, ...).
        isolated: the same for the order of :func:`~.mixed_gallery.isolated_first`, one curve.
    """

    old: str
    new: str
    shares: Sequence[float]
    random: Mapping[str, list[list[float]]]
    isolated: Mapping[str, list[float]]


@dataclass(frozen=True, eq=False)
class FamilyReport:
    """A family's behaviour on one test set.

    Attributes:
        grid: its compatibility grid, with provenance.
        queries: each query in each cell.
        items: of the queries, in order.
        cmc: ``CMC(1), ...`` in per cent of each defined cell.
        counts: similarities of the pairs of each defined cell.
        verifications: one for each target FAR, the easiest first.
        flips: shares of negative flips, ``[m][m]`` in per cent.
        lost: the worst of them.
        rehearsal: None if a cell that it needs is not defined, or there is one sub-model only.
        labels: what people call identities and cameras.
    """

    grid: CompatibilityGrid
    queries: QueryResults
    items: Sequence[Item]
    cmc: Mapping[Cell, np.ndarray]
    counts: Mapping[Cell, SimilarityCounts]
    verifications: Sequence[Verification]
    flips: list[list[float | None]]
    lost: Sequence[LostQuery]
    rehearsal: Rehearsal | None
    labels: LabelNames = THEMSELVES

    def cell_name(self, cell: Cell) -> str:
        """``query/gallery``, such as ``w025/w100``."""
        return f"{self.grid.names[cell[0]]}/{self.grid.names[cell[1]]}"

    def to_dict(self) -> dict[str, Any]:
        """The content of ``report.json``: plain values only."""
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
            "mixed_gallery": None if self.rehearsal is None else asdict(self.rehearsal),
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


def build_family_report(
    members: Sequence[Member],
    pids: Tensor,
    camids: Tensor,
    paths: Sequence[str],
    num_query: int,
    dataset: str,
    *,
    undefined: Collection[tuple[float, float]] = (),
    diagonal_only: bool = False,
    refinement: Refinement | None = None,
    metadata: Mapping[str, Any] | None = None,
    labels: LabelNames = THEMSELVES,
) -> FamilyReport:
    """Measure a family; arguments and errors as :func:`~.cross_test.cross_test`.

    Args:
        paths: image files of the queries, then of the gallery, ``[Nq + Ng]``.
        labels: what people call the identities and cameras of the data set.
    """
    grid, queries = cross_test(
        members, pids, camids, num_query, dataset,
        undefined=undefined, diagonal_only=diagonal_only, refinement=refinement, metadata=metadata,
    )  # fmt: skip
    logger.info("Grid done; similarities of all pairs")
    values = [F.normalize(member.features) for member in sorted(members, key=lambda member: member.width)]
    query, gallery = [value[:num_query] for value in values], [value[num_query:] for value in values]
    matches = ProtocolMatches(pids[:num_query], pids[num_query:], camids[:num_query], camids[num_query:])
    cells = [(int(q), int(g)) for q, g in np.argwhere(queries.defined)]
    counts = {(q, g): count_similarities(query[q], gallery[g], matches) for q, g in cells}
    length = min(MAX_RANK, matches.num_gallery)
    items = [
        Item(path, name, int(pid), int(camid))
        for path, name, pid, camid in zip(paths, short_names(paths), pids, camids, strict=True)
    ]
    lost = [
        LostQuery(
            flip,
            items[flip.query],
            *(items[num_query + best_match(flip.query, query[flip.q], gallery[g], matches)] for g in (flip.q, flip.g)),
        )
        for flip in worst_flips(queries.first_hit_rank, queries.defined, WORST_QUERIES)
    ]
    return FamilyReport(
        grid,
        queries,
        items[:num_query],
        cmc={(q, g): cmc_curve(queries.first_hit_rank[q, g], length) for q, g in cells},
        counts=counts,
        verifications=[verify(counts, target) for target in TARGETS],
        flips=negative_flips(queries.first_hit_rank, queries.defined),
        lost=lost,
        rehearsal=_rehearse(grid.names, query, gallery, matches, queries.defined),
        labels=labels,
    )


def short_names(paths: Sequence[str]) -> list[str]:
    """Names of files without the folders that all have in common, and printable whatever their bytes are."""
    absolute = [os.path.abspath(path) for path in paths]
    common = os.path.commonpath([os.path.dirname(path) for path in absolute])
    names = (os.path.relpath(path, common).replace(os.sep, "/") for path in absolute)
    return [os.fsencode(name).decode("utf-8", "backslashreplace") for name in names]


def _rehearse(
    names: Sequence[str],
    query: Sequence[Tensor],
    gallery: Sequence[Tensor],
    matches: ProtocolMatches,
    defined: np.ndarray,
) -> Rehearsal | None:
    """Upgrade the smallest sub-model's gallery to the largest's, queried by both."""
    ends = (0, len(names) - 1)
    if len(names) == 1 or not all(defined[q, g] for q in ends for g in ends):
        return None
    old, new = (gallery[end] for end in ends)
    orders = [random_order(matches.num_gallery, seed) for seed in range(RANDOM_ORDERS)]
    best = isolated_first(old)
    random, isolated = {}, {}
    for end in ends:
        logger.info(f"Mixed gallery, queries by {names[end]}: {len(orders) + 1} orders of {len(SHARES)} shares each")
        random[names[end]] = [mixed_gallery_map(query[end], old, new, matches, order) for order in orders]
        isolated[names[end]] = mixed_gallery_map(query[end], old, new, matches, best)
    return Rehearsal(names[0], names[-1], list(SHARES), random, isolated)


def _point(point: OperatingPoint) -> dict[str, Any]:
    reason = {"reason": point.reason} if point.reason else {}
    return {"threshold": point.threshold, "TAR": point.tar, "FAR": point.far, **reason}
