"""Exact ranks of a few items in a long list of scores, without sorting the list.

The list is thresholded by the lowest of the items, and they are located among the few survivors. A low threshold lets
most of the list through; such items are counted one by one until few survive the next.
"""

from __future__ import annotations

import numpy as np

FEW = 1 / 16  # of the list: sorting so many costs as much as counting a handful of items
MAX_COUNTED = 32  # counting so many costs about half of sorting the whole list
RANK_BYTES = 13  # per score, when all survive: a mask, the survivors, and what sorting them takes


def ranks_of(scores: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Ranks, from 1, of the items at ``places`` when ``scores`` are sorted, highest first, by a stable sort.

    Args:
        scores: ``[N]``, without NaN.
        places: different positions in ``scores``, ``[P]``, at least one.

    Returns:
        ``[P]``, ascending: not in the order of ``places``.
    """
    own = scores[places]
    order = (-own).argsort()
    places, own = places[order], own[order]
    few, count_until = int(FEW * len(scores)), len(places) - MAX_COUNTED
    ranks = np.empty(len(places), dtype=np.int64)
    left = len(places)
    while left:
        survives = scores >= own[left - 1]
        count = np.count_nonzero(survives)
        if count <= few or left == count_until:
            break
        left -= 1
        ranks[left] = count - _later_equals(scores, places[left])
    if left:
        survivors = scores.compress(survives)
        survivors.sort()
        lower = survivors.searchsorted(own[:left])
        equal = survivors.searchsorted(own[:left], side="right") - lower
        ranks[:left] = len(survivors) - lower
        for i in (equal > 1).nonzero()[0]:
            ranks[i] -= _later_equals(scores, places[i])
    ranks.sort()
    return ranks


def _later_equals(scores: np.ndarray, place: int) -> int:
    """How many scores behind ``place`` equal the one there."""
    return int(np.count_nonzero(scores[place + 1 :] == scores[place]))
