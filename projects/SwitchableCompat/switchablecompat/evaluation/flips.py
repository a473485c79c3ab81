"""Negative flips one by one: the queries that a cross-test loses, and what they find instead.

The shares are :func:`~.statistics.negative_flips`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .ranking import ProtocolMatches


@dataclass(frozen=True)
class Flip:
    """A query that is right at rank 1 in its self-test and wrong in a cross-test.

    Attributes:
        query: its index.
        q: index of its sub-model.
        g: index of the gallery's sub-model in the cross-test.
        rank: where the first right item is in the cross-test, from 2.
    """

    query: int
    q: int
    g: int
    rank: int


def worst_flips(first_hit_rank: np.ndarray, defined: np.ndarray, limit: int) -> list[Flip]:
    """The queries that fall furthest, each with the cross-test where it does; ties by cell, then by query.

    Args:
        first_hit_rank: rank of the best match, from 1, ``[m, m, Nq]``; 0 for queries that count nowhere.
        defined: which cells are, ``[m, m]`` bool.
        limit: how many to give at most.
    """
    worst: dict[int, Flip] = {}
    m = len(defined)
    for q in range(m):
        for g in range(m):
            if q == g or not defined[q, q] or not defined[q, g]:
                continue
            for query in np.flatnonzero((first_hit_rank[q, q] == 1) & (first_hit_rank[q, g] > 1)):
                flip = Flip(int(query), q, g, int(first_hit_rank[q, g, query]))
                worst[flip.query] = max(worst.get(flip.query, flip), flip, key=lambda one: one.rank)
    return sorted(worst.values(), key=lambda flip: (-flip.rank, flip.q, flip.g, flip.query))[:limit]


@torch.no_grad()
def best_match(query: int, query_features: Tensor, gallery_features: Tensor, matches: ProtocolMatches) -> int:
    """Index of the gallery item at rank 1 of a query, junk left out; the lowest of several that score the same.

    Args:
        query: its index.
        query_features: ``[Nq, D]``.
        gallery_features: ``[Ng, D]``.
        matches: of their labels.
    """
    similarity = (gallery_features @ query_features[query]).cpu().numpy()
    _, col, junk = matches.pairs(query, query + 1)
    similarity[col[junk]] = -np.inf
    return int(np.argmax(similarity))
