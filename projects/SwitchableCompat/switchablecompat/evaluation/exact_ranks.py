"""Exact ranks of a few items in long lists of scores, without sorting the lists.

On a CPU, the lowest of the items is the threshold for the list, and the items are located among the few scores that
pass it. If a low threshold lets too many scores pass, the lowest items are ranked one by one, by counting higher
scores, until few scores pass the next threshold. On a GPU every item is ranked by counting, many items at a time. Both
methods are exact, ties included.
"""

import numpy as np
import torch
from torch import Tensor

FEW = 1 / 16  # share of the list: sorting so many scores costs as much as counting for a handful of items
MAX_COUNTED = 32  # counting for so many items costs about half of sorting the whole list
RANK_BYTES = 13  # per score, if all pass: a mask, the passing scores, and the memory for sorting them
COUNT_BYTES = 8  # per score of an item's list on a GPU: a copy and three masks


def ranks_by_row(scores: Tensor, row: np.ndarray, col: np.ndarray, *, block_bytes: int) -> np.ndarray:
    """Ranks, from 1, of items in several lists, each sorted by a stable sort with the highest score first.

    Args:
        scores: one list per row, ``[B, N]``, without NaN.
        row: list of each item, ascending, ``[P]``.
        col: position of each item in its list, distinct within a list, ``[P]``.
        block_bytes: bound on the extra memory on a GPU.

    Returns:
        ``[P]`` int64, list by list, ascending within each list (not in the order of ``col``).
    """
    if scores.device.type != "cpu":
        return counted_ranks(scores, row, col, block_bytes=block_bytes)
    places = np.split(col, np.cumsum(np.bincount(row, minlength=len(scores)))[:-1])
    ranks = [ranks_of(own, at) for own, at in zip(scores.numpy(), places, strict=True) if len(at)]
    return np.concatenate(ranks) if ranks else np.empty(0, dtype=np.int64)


def counted_ranks(scores: Tensor, row: np.ndarray, col: np.ndarray, *, block_bytes: int) -> np.ndarray:
    """:func:`ranks_by_row` on the scores' device, by comparing all scores of a list with each of its items."""
    length = scores.shape[1]
    rows, cols = (torch.from_numpy(index).to(scores.device) for index in (row, col))
    place = torch.arange(length, device=scores.device)
    ranks = torch.empty_like(rows)
    step = max(1, block_bytes // (COUNT_BYTES * length))
    for of, at, rank in zip(rows.split(step), cols[:, None].split(step), ranks.split(step), strict=True):
        lists = scores[of]
        own = lists.gather(1, at)
        above = (lists == own) & (place < at)
        above |= lists > own
        torch.sum(above, dim=1, out=rank)
    return ((rows * length + ranks).sort().values % length + 1).cpu().numpy()


def ranks_of(scores: np.ndarray, places: np.ndarray) -> np.ndarray:
    """:func:`ranks_by_row` for one list ``[N]`` and the positions ``places`` ``[P]`` of one or more items in it."""
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
    return int(np.count_nonzero(scores[place + 1 :] == scores[place]))
