"""What a search found, as a file: its lists and pictures are shown again without a model, an index or a feature."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError
from ..evaluation.ranking import RankingResult
from .card import ModelCard
from .items import Item
from .query import Hit, pick
from .searchable import SearchableGallery

FORMAT = 1


@dataclass(frozen=True, eq=False)
class StoredSearch:
    """A search that is over.

    Attributes:
        title: what was searched by what.
        subtitle: how many queries and items, and the metrics.
        queries: ``[Nq]``.
        found: what each found, best first.
        result: their metrics, ``[Nq]`` each; None where identities or cameras are not known.
        aspect: width of a picture by its height.
    """

    title: str
    subtitle: str
    queries: Sequence[Item]
    found: Sequence[Sequence[Hit]]
    result: RankingResult | None
    aspect: float

    @classmethod
    def read(cls, path: str | Path) -> StoredSearch:
        """Read what ``tools/search.py query --json`` wrote.

        Raises:
            InputError: no such file, or something else in it.
        """
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
            if content["format"] != FORMAT:
                raise InputError(f"{path}: format", f"must be {FORMAT}", content["format"])
            queries = content["queries"]
            height, width = content["query_model"]["preprocessing"]["size"]
            return cls(
                content["title"],
                content["subtitle"],
                [Item(*(one[key] for key in Item._fields)) for one in queries],
                [[_hit(hit) for hit in one["found"]] for one in queries],
                _result(queries),
                width / height,
            )
        except (OSError, ValueError, TypeError, KeyError) as error:
            if isinstance(error, InputError):
                raise
            reason = f"{type(error).__name__}: {error}"
            raise InputError(path, "must be what tools/search.py query --json wrote", reason) from None

    def pick(self, order: str, number: int, against: StoredSearch | None = None) -> list[int]:
        """Which queries to show.

        Args:
            order: see :func:`~.query.pick`, or ``flipped``: right at rank 1 in ``against`` and wrong here, those that
                fell furthest first.
            number: how many at most.
            against: another search with the same queries.

        Raises:
            InputError: an order that needs metrics or another search, or another search of other queries.
        """
        if order != "flipped":
            return pick(order, number, self.queries, self.result)
        if against is None or against.result is None or self.result is None:
            raise InputError("--pick", "flipped needs --against, and identities and cameras in both", order)
        if [query.path for query in against.queries] != [query.path for query in self.queries]:
            raise InputError("--against", "must have the same queries in the same order", f"{len(against.queries)}")
        before, now = against.result.first_hit_rank, self.result.first_hit_rank
        (flipped,) = np.nonzero((before == 1) & (now > 1))
        return flipped[np.argsort(-now[flipped], kind="stable")][:number].tolist()


def search_record(
    gallery: SearchableGallery,
    folder: str,
    model: ModelCard,
    queries: Sequence[Item],
    found: Sequence[Sequence[Hit]],
    result: RankingResult | None,
    **own: Any,
) -> dict[str, Any]:
    """A search as plain values, for a JSON file.

    Args:
        gallery: what was searched.
        folder: where it lies.
        model: the queries' sub-model.
        queries: ``[Nq]``.
        found: what each found.
        result: their metrics.
        **own: ``title``, ``subtitle``, ``top``, ``parameters`` and ``metrics`` of all.
    """
    rows = [
        {**query._asdict(), "found": [hit.to_dict() for hit in hits]}
        for query, hits in zip(queries, found, strict=True)
    ]
    if result is not None:
        for number, row in enumerate(rows):
            known = bool(result.valid[number])  # else it counts nowhere, and has no numbers
            row["average_precision"] = float(result.average_precision[number]) if known else None
            row["first_hit_rank"] = int(result.first_hit_rank[number]) if known else None
    return {
        "format": FORMAT,
        "gallery": {"folder": folder, **gallery.description},
        "query_model": model.to_dict(),
        **own,
        "queries": rows,
    }


def _hit(content: Mapping[str, Any]) -> Hit:
    item = Item(*(content[key] for key in Item._fields))
    return Hit(content["rank"], content["id"], item, content["score"], content["match"])


def _result(queries: Sequence[Mapping[str, Any]]) -> RankingResult | None:
    if not queries or "first_hit_rank" not in queries[0]:
        return None
    first = np.array([one["first_hit_rank"] or 0 for one in queries], dtype=np.int64)
    precision = np.array([np.nan if (ap := one["average_precision"]) is None else ap for one in queries], dtype=float)
    return RankingResult(precision, np.full(len(first), np.nan), first, first > 0)
