"""Metrics of rankings that a search engine returned, possibly incomplete, in FastReID's protocol.

The definitions are those of :mod:`switchablecompat.evaluation.ranking`, which ranks features itself; here the rankings
are given. A positive that was not returned has no rank: it counts as never found and adds nothing to the average
precision, ``AP = 1/n * sum over the found of i / r_i``. For complete rankings both give the same.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from ...evaluation.ranking import Labels, ProtocolMatches, RankingResult


def score_lists(
    lists: Iterable[np.ndarray],
    query_pids: Labels,
    gallery_pids: Labels,
    query_camids: Labels,
    gallery_camids: Labels,
) -> RankingResult:
    """Score rankings of gallery items.

    Args:
        lists: Blocks ``[B, k]`` of gallery indices, best first, -1 for nothing; together a row for each query.
        query_pids: identities of the queries, ``[Nq]``, of any type that NumPy can sort.
        gallery_pids: identities of the gallery items, ``[Ng]``.
        query_camids: cameras of the queries, ``[Nq]``.
        gallery_camids: cameras of the gallery items, ``[Ng]``.

    Returns:
        The metrics; ``first_hit_rank`` of a valid query that found none of its positives is one above the size of the
        gallery, its inverse negative penalty 0.

    Raises:
        InputError: if lengths differ, or no query has a positive in the gallery.
    """
    positives = ProtocolMatches(query_pids, gallery_pids, query_camids, gallery_camids).num_positives
    query_pid, gallery_pid = _numbered(query_pids, gallery_pids)
    query_cam, gallery_cam = _numbered(query_camids, gallery_camids)
    valid = positives > 0
    precision, penalty = np.empty(len(valid)), np.empty(len(valid))
    first = np.empty(len(valid), dtype=np.int64)
    start = 0
    for rows in lists:
        block = slice(start, start := start + len(rows))
        same = gallery_pid[rows] == query_pid[block, None]
        junk = same & (gallery_cam[rows] == query_cam[block, None])
        rank = np.cumsum((rows >= 0) & ~junk, axis=1)
        hit = same & ~junk & (rows >= 0)
        ordinal = np.cumsum(hit, axis=1)
        number, found = np.maximum(positives[block], 1), ordinal[:, -1]
        precision[block] = np.where(hit, ordinal / np.maximum(rank, 1), 0).sum(axis=1) / number
        last = np.maximum(np.where(hit, rank, 0).max(axis=1), 1)
        penalty[block] = np.where(found == number, number / last, 0)
        first[block] = np.where(hit, rank, len(gallery_pid) + 1).min(axis=1)
    precision[~valid] = penalty[~valid] = np.nan
    first[~valid] = 0
    return RankingResult(precision, penalty, first, valid)


def _numbered(query: Labels, gallery: Labels) -> tuple[np.ndarray, np.ndarray]:
    """Labels as numbers: integers compare faster than names."""
    numbers = np.unique(np.concatenate([np.asarray(query), np.asarray(gallery)]), return_inverse=True)[1]
    return numbers[: len(query)], numbers[len(query) :]
