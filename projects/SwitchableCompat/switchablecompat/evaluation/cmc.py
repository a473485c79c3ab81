"""Cumulative match characteristic: how far down its ranking a query meets the first right item."""

from __future__ import annotations

import numpy as np

from ..errors import InputError


def cmc_curve(first_hit_rank: np.ndarray, max_rank: int) -> np.ndarray:
    """``CMC(k)``: share of the valid queries whose first hit is at rank ``k`` or better, in per cent.

    Args:
        first_hit_rank: rank of the best match, from 1, ``[Nq]``; 0 for a query that counts nowhere.
        max_rank: the curve's length.

    Returns:
        ``CMC(1), ..., CMC(max_rank)``, ``[max_rank]`` float64, never falling.

    Raises:
        InputError: ``max_rank`` below 1, or no valid query.
    """
    if max_rank < 1:
        raise InputError("max_rank", "must be at least 1", max_rank)
    ranks = first_hit_rank[first_hit_rank > 0]
    if not len(ranks):
        raise InputError("first-hit ranks", "must hold a query with a match", f"{len(first_hit_rank)} without")
    hits = np.bincount(ranks[ranks <= max_rank], minlength=max_rank + 1)
    return 100.0 * np.cumsum(hits[1:]) / len(ranks)
