"""A search: the results of queries, their matches and metrics. Its file can be shown again without a model.

Shapes: ``Nq`` queries, ``Ng`` gallery items, ``k`` items found for each query.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from ...errors import InputError
from ...evaluation.ranking import RankingResult
from ..card import ModelCard, check_format, read_json
from ..image_list import LabelledImage, labels_of
from .faiss_gallery import Gallery
from .milvus_gallery import MilvusGallery
from .scoring import NOT_FOUND, score_lists

FORMAT = 1
RESULTS = "what the command search query --json wrote"
BLOCK_CELLS = 2_000_000  # ranked items in a block of queries, some dozen bytes each
METRICS = ("average_precision", "first_hit_rank")  # metrics of each query in a file
AnyGallery = Gallery | MilvusGallery


@dataclass(frozen=True)
class Hit:
    """One item that a search found.

    ``rank`` counts from 1, ``score`` is the inner product, the cosine. ``match`` is ``hit`` (same identity, another
    camera), ``junk`` (same identity and same camera: counts nowhere) or ``miss``; None if identities are not known.
    """

    rank: int
    id: int
    item: LabelledImage
    score: float
    match: str | None

    def to_dict(self) -> dict[str, Any]:
        """The hit and its item as plain values; :meth:`from_dict` restores them."""
        return {"rank": self.rank, "id": self.id, **self.item._asdict(), "score": self.score, "match": self.match}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Hit:
        return cls(content["rank"], content["id"], _image(content), content["score"], content["match"])


def check_top(gallery: AnyGallery, top: int) -> None:
    """Reject a number of items to find below one, or above what the gallery has or its engine finds."""
    if not 1 <= top <= gallery.deepest:
        whole = gallery.deepest == len(gallery)
        what = f"{len(gallery)} of the gallery" if whole else f"{gallery.deepest} that Milvus finds"
        raise InputError("number of items to find", f"must be from 1 to the {what}", top)


def find(gallery: AnyGallery, queries: Sequence[LabelledImage], features: np.ndarray, top: int) -> list[list[Hit]]:
    """The ``top`` most similar items of each query, best first, by features ``[Nq, D]`` of length one."""
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
    """Whether an item is a hit, junk or a miss for a query, see :attr:`Hit.match`."""
    if query.pid is None or item.pid is None:
        return None
    if query.pid != item.pid:
        return "miss"
    return "junk" if query.camid is not None and query.camid == item.camid else "hit"


def measure(
    gallery: AnyGallery, queries: Sequence[LabelledImage], features: np.ndarray, depth: int | None = None
) -> RankingResult | None:
    """Metrics of the searches, in FastReID's protocol; None if identities or cameras are not known on both sides.

    ``features`` are the queries' ``[Nq, D]``, L2-normalised. ``depth`` is how many items to rank for each; positives
    beyond it count as never found. By default it is the whole gallery, which with an exact index gives the values of
    the grid's cell. Without any query that has a positive, :class:`~...evaluation.ranking.NoValidQueryError` is raised.
    """
    labels = None if any(None in query for query in queries) else gallery.labels()
    if labels is None:
        return None
    depth = depth or len(gallery)
    step = max(1, BLOCK_CELLS // depth)
    query_pids, query_camids = labels_of(queries)
    with tqdm(range(0, len(queries), step), desc=f"Ranking {depth} items of the gallery", unit="block") as starts:
        lists = (gallery.search(features[start : start + step], depth)[1] for start in starts)
        return score_lists(lists, query_pids, labels[0], query_camids, labels[1])


@dataclass(frozen=True, eq=False)
class Search:
    """A finished search.

    Attributes:
        title, subtitle: the sub-models of queries and gallery; numbers of queries and items, and the metrics.
        queries, found: the queries, ``[Nq]``, and the hits of each, best first.
        result: metrics of each query, ``[Nq]`` each; None if identities or cameras are not known.
        aspect: width of an image divided by its height.
    """

    title: str
    subtitle: str
    queries: Sequence[LabelledImage]
    found: Sequence[Sequence[Hit]]
    result: RankingResult | None
    aspect: float

    def to_dict(self, gallery: AnyGallery, folder: str, model: ModelCard, **own: Any) -> dict[str, Any]:
        """Plain values for a JSON file: the search, the gallery and its place, the queries' sub-model, and ``own``."""
        rows: list[dict[str, Any]] = [
            {**query._asdict(), "found": [hit.to_dict() for hit in hits]}
            for query, hits in zip(self.queries, self.found, strict=True)
        ]
        if self.result is not None:
            result = self.result
            for number, row in enumerate(rows):  # a query without a positive is not counted, and has no numbers
                precision, first = result.average_precision[number].item(), result.first_hit_rank[number].item()
                row |= dict.fromkeys(METRICS)
                if result.valid[number]:
                    row |= {"average_precision": precision, "first_hit_rank": None if first == NOT_FOUND else first}
        return {
            "format": FORMAT,
            "gallery": {"folder": folder, **gallery.description},
            "query_model": model.to_dict(),
            "title": self.title,
            "subtitle": self.subtitle,
            **own,
            "queries": rows,
        }

    @classmethod
    def read(cls, path: str | Path) -> Search:
        """Read a file of ``switchablecompat search query --json``."""
        content = read_json(path, RESULTS)
        check_format(content, path, RESULTS, FORMAT, ("title", "subtitle", "queries", "query_model"))
        try:
            queries = content["queries"]
            height, width = content["query_model"]["preprocessing"]["size"]
            return cls(
                content["title"],
                content["subtitle"],
                [_image(one) for one in queries],
                [[Hit.from_dict(hit) for hit in one["found"]] for one in queries],
                _result(queries),
                width / height,
            )
        except (ValueError, TypeError, KeyError) as error:
            raise InputError(path, f"must be {RESULTS}", f"{type(error).__name__}: {error}") from None

    def pick(self, order: str, number: int, against: Search | None = None) -> list[int]:
        """Choose at most ``number`` queries to show; returns their indices.

        ``order`` is ``spread`` evenly over all; the ``best`` or ``worst`` by average precision; or ``flipped``: right
        at rank 1 in ``against``, a search of the same queries, and wrong here, those that fall furthest first. An order
        whose metrics or other search are missing raises InputError.
        """
        if order == "spread":
            return np.linspace(0, len(self.queries) - 1, min(number, len(self.queries))).round().astype(int).tolist()
        if order != "flipped":
            if self.result is None:
                raise InputError("--pick", "must be spread where there are no metrics", order)
            (valid,) = np.nonzero(self.result.valid)
            ascending = valid[np.argsort(self.result.average_precision[valid], kind="stable")]
            return (ascending if order == "worst" else ascending[::-1])[:number].tolist()
        if against is None or against.result is None or self.result is None:
            raise InputError("--pick", "flipped needs --against, and identities and cameras in both", order)
        if [query.path for query in against.queries] != [query.path for query in self.queries]:
            raise InputError("--against", "must have the same queries in the same order", f"{len(against.queries)}")
        before, now = against.result.first_hit_rank, self.result.first_hit_rank
        (flipped,) = np.nonzero((before == 1) & (now > 1))
        return flipped[np.argsort(-now[flipped], kind="stable")][:number].tolist()


def _image(content: Mapping[str, Any]) -> LabelledImage:
    return LabelledImage(*(content[key] for key in LabelledImage._fields))


def _result(queries: Sequence[Mapping[str, Any]]) -> RankingResult | None:
    if not queries or "first_hit_rank" not in queries[0]:
        return None
    precision = np.array([one["average_precision"] for one in queries], dtype=float)  # None as NaN
    valid = ~np.isnan(precision)
    found = np.array([one["first_hit_rank"] or NOT_FOUND for one in queries], dtype=np.int64)
    return RankingResult(precision, np.full(len(found), np.nan), np.where(valid, found, 0), valid)
