"""Search results: what a query found, whether that is right, and the metrics of the rankings.

Shapes: ``Nq`` queries, ``Ng`` gallery items, ``k`` items found for each query.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tqdm import tqdm

from ...errors import InputError
from ...evaluation.ranking import RankingResult
from ..image_list import LabelledImage
from .scoring import score_lists
from .searchable import SearchableGallery

BLOCK_CELLS = 2_000_000  # items that the queries of a block rank together: some dozen bytes each


@dataclass(frozen=True)
class Hit:
    """One item that a search found.

    Attributes:
        rank: from 1.
        id: of the item.
        item: its file, identity and camera.
        score: inner product, the cosine.
        match: ``hit`` (same identity, another camera), ``junk`` (same identity and same camera: counts nowhere),
            ``miss``; None where identities are not known.
    """

    rank: int
    id: int
    item: LabelledImage
    score: float
    match: str | None

    def to_dict(self) -> dict[str, Any]:
        """Plain values, those of the item among them."""
        return {"rank": self.rank, "id": self.id, **self.item._asdict(), "score": self.score, "match": self.match}


def find(
    gallery: SearchableGallery, queries: Sequence[LabelledImage], features: np.ndarray, top: int
) -> list[list[Hit]]:
    """The ``top`` most similar items of each query, best first.

    Args:
        gallery: what to search.
        queries: ``[Nq]``.
        features: theirs, L2-normalised, ``[Nq, D]``.
        top: how many, k.
    """
    scores, rows = gallery.search(features, top)
    items = gallery.items(rows)
    return [
        [
            Hit(rank, *items[row], float(score), match_of(query, items[row][1]))
            for rank, (row, score) in enumerate(zip(found.tolist(), values, strict=True), start=1)
            if row >= 0
        ]
        for query, found, values in zip(queries, rows, scores, strict=True)
    ]


def match_of(query: LabelledImage, item: LabelledImage) -> str | None:
    """See :attr:`Hit.match`."""
    if query.pid is None or item.pid is None:
        return None
    if query.pid != item.pid:
        return "miss"
    return "junk" if query.camid is not None and query.camid == item.camid else "hit"


def measure(
    gallery: SearchableGallery, queries: Sequence[LabelledImage], features: np.ndarray, depth: int | None = None
) -> RankingResult | None:
    """Metrics of the searches, in FastReID's protocol.

    Args:
        gallery: what to search.
        queries: ``[Nq]``.
        features: theirs, L2-normalised, ``[Nq, D]``.
        depth: how many items to rank for each query; by default the whole gallery, which for an exact index
            gives the cell of the grid. Positives beyond count as never found.

    Returns:
        The metrics; None if identities or cameras are not known on both sides.

    Raises:
        InputError: no query has a positive in the gallery.
    """
    labels = None if any(None in query for query in queries) else gallery.labels()
    if labels is None:
        return None
    depth = depth or len(gallery)
    step = max(1, BLOCK_CELLS // depth)
    query_pids, query_camids = (np.array([query[column] for query in queries]) for column in (1, 2))
    with tqdm(range(0, len(queries), step), desc=f"Ranking {depth} items of the gallery", unit="block") as starts:
        lists = (gallery.search(features[start : start + step], depth)[1] for start in starts)
        return score_lists(lists, query_pids, labels[0], query_camids, labels[1])


def pick(order: str, number: int, queries: Sequence[LabelledImage], result: RankingResult | None) -> list[int]:
    """Which queries to show.

    Args:
        order: ``spread`` evenly over all, or the ``best`` or ``worst`` by average precision.
        number: how many at most.
        queries: ``[Nq]``.
        result: their metrics, for ``best`` and ``worst``.

    Raises:
        InputError: ``best`` or ``worst`` without metrics.
    """
    if order == "spread":
        return np.linspace(0, len(queries) - 1, min(number, len(queries))).round().astype(int).tolist()
    if result is None:
        raise InputError("--pick", "must be spread where there are no metrics", order)
    (valid,) = np.nonzero(result.valid)
    ascending = valid[np.argsort(result.average_precision[valid], kind="stable")]
    return (ascending if order == "worst" else ascending[::-1])[:number].tolist()
