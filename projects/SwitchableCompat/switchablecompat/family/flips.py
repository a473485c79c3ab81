"""Negative flips: the queries that a cross-test loses, their share, and the wrong items that they find."""

import itertools
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..evaluation.ranking import ProtocolMatches
from ..evaluation.task import Cell


@dataclass(frozen=True)
class Flip:
    """A query that is right at rank 1 in its self-test and wrong in a cross-test.

    All are indices: the ``query``, its sub-model ``q``, and the gallery's sub-model ``g`` in the cross-test, where the
    first right item has ``rank``, from 2.
    """

    query: int
    q: int
    g: int
    rank: int


def negative_flips(first_hit_rank: np.ndarray, defined: np.ndarray) -> list[list[float | None]]:
    """Share of queries that are right at rank 1 under (i, i) and wrong under (i, j), in per cent, ``[m][m]``.

    These are the queries of sub-model i that are lost if sub-model j encodes the gallery instead of i. None on the
    diagonal, and if a cell or its query sub-model's self-test is not ``defined``, ``[m, m]`` bool. ``first_hit_rank``
    is the rank of the best match, from 1, ``[m, m, Nq]``; 0 for queries that are not counted.
    """
    flips: list[list[float | None]] = [[None] * len(defined) for _ in defined]
    for (q, g), lost in _lost(first_hit_rank, defined).items():
        flips[q][g] = 100.0 * float(lost.sum() / (first_hit_rank[q, q] > 0).sum())
    return flips


def worst_flips(first_hit_rank: np.ndarray, defined: np.ndarray, limit: int) -> list[Flip]:
    """The ``limit`` queries that fall furthest, each with the cross-test of its fall; ties by cell, then by query.

    The arguments are those of :func:`negative_flips`.
    """
    worst: dict[int, Flip] = {}
    for (q, g), lost in _lost(first_hit_rank, defined).items():
        for query in np.flatnonzero(lost):
            flip = Flip(int(query), q, g, int(first_hit_rank[q, g, query]))
            worst[flip.query] = max(worst.get(flip.query, flip), flip, key=lambda one: one.rank)
    return sorted(worst.values(), key=lambda flip: (-flip.rank, flip.q, flip.g, flip.query))[:limit]


def _lost(first_hit_rank: np.ndarray, defined: np.ndarray) -> dict[Cell, np.ndarray]:
    """The queries that each cross-test loses, ``[Nq]`` bool, if it and its query sub-model's self-test are defined."""
    pairs = itertools.permutations(range(len(defined)), 2)
    ranks = {(q, g): (first_hit_rank[q, q], first_hit_rank[q, g]) for q, g in pairs if defined[q, q] and defined[q, g]}
    return {cell: (alone == 1) & (crossed != 1) for cell, (alone, crossed) in ranks.items()}


@torch.no_grad()
def best_match(number: int, query: Tensor, gallery: Tensor, matches: ProtocolMatches, *, right: bool) -> int:
    """Index of the gallery item at rank 1 of a query, junk left out. Among ties, the lowest index.

    ``number`` is the index of the query, ``query`` its features ``[D]``, and ``gallery`` the gallery's ``[Ng, D]``.
    ``right`` says whether the grid found the ``right`` identity there: its products of blocks round otherwise than
    this one, so that items that score alike may change places.
    """
    _, col, junk = matches.pairs(number, number + 1)
    wanted = torch.full((len(gallery),), not right)
    wanted[torch.from_numpy(col)] = torch.from_numpy(~junk & right)
    similarity = (gallery @ query).masked_fill(~wanted.to(gallery.device), -torch.inf)
    return int(torch.nonzero(similarity == similarity.max())[0])
