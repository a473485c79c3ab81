"""Exact retrieval metrics under the Market-1501 protocol, block by block.

Shapes: ``Nq`` queries, ``Ng`` gallery items, ``D`` dimensions; one block has ``B`` queries and ``P`` positives.

The definitions are those of ``eval_market1501`` in FastReID's ``fastreid/evaluation/rank.py`` (which follows
torchreid). Gallery items of the query's identity *and* camera are junk and leave the ranking. A query without a
remaining positive is invalid and is not counted. With ``r_1 < ... < r_n`` the ranks of a query's positives among the
remaining gallery items,

* average precision ``AP = 1/n * sum_i i / r_i``,
* inverse negative penalty ``INP = n / r_n`` (Ye et al., "Deep Learning for Person Re-identification", section 4),
* the query is a hit at rank ``k`` iff ``r_1 <= k``.

All three need only the ranks of the positives (:mod:`.exact_ranks`). So no row is sorted as a whole, and the metrics
cost little more than the matrix product. Products and ranks are computed where the features are, on a CPU or a GPU.

Ties are broken by gallery order, as by a stable sort: an item with the same score as a positive ranks above it iff its
gallery index is lower. So even constant features give a reproducible result.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import inf

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError
from .exact_ranks import RANK_BYTES, ranks_by_row

BLOCK_BYTES = 128 * 2**20  # 400 queries by 82,000 gallery items; products of fewer rows are slower, by 10 % at 200
PAIR_BYTES = 128  # per (query, gallery item of its identity): row, column, key, rank and temporaries

Labels = Tensor | np.ndarray | list


class NoValidQueryError(InputError):
    """No query has a positive in the gallery, so there are no metrics."""


@dataclass(frozen=True, eq=False)
class RankingResult:
    """Metrics of every query, and their means in per cent over the valid queries.

    Attributes:
        average_precision: AP in [0, 1], ``[Nq]``; NaN for an invalid query.
        inverse_negative_penalty: INP in [0, 1], ``[Nq]``; NaN for an invalid query.
        first_hit_rank: rank of the best positive, from 1, ``[Nq]``; 0 for an invalid query.
        valid: whether the query has at least one positive, ``[Nq]``.
    """

    average_precision: np.ndarray
    inverse_negative_penalty: np.ndarray
    first_hit_rank: np.ndarray
    valid: np.ndarray

    @property
    def mAP(self) -> float:  # noqa: N802 (the field's own name)
        """Mean average precision in per cent."""
        return 100.0 * float(self.average_precision[self.valid].mean())

    @property
    def mINP(self) -> float:  # noqa: N802
        """Mean inverse negative penalty in per cent."""
        return 100.0 * float(self.inverse_negative_penalty[self.valid].mean())

    def rank_k(self, k: int) -> float:
        """Share of valid queries with a positive among their first ``k >= 1`` items, in per cent."""
        if k < 1:
            raise InputError("k", "must be at least 1", k)
        return 100.0 * float((self.first_hit_rank[self.valid] <= k).mean())


class ProtocolMatches:
    """The positives and the junk in the gallery for each query, independent of the features.

    Build it once and use it for every cell of a grid. Identities and cameras may be any values that NumPy can sort.

    Raises:
        InputError: lengths differ.
        NoValidQueryError: no query has a positive.
    """

    def __init__(self, query_pids: Labels, gallery_pids: Labels, query_camids: Labels, gallery_camids: Labels) -> None:
        query_pids, gallery_pids, query_camids, gallery_camids = (
            np.asarray(labels.cpu() if isinstance(labels, Tensor) else labels).reshape(-1)
            for labels in (query_pids, gallery_pids, query_camids, gallery_camids)
        )
        for side, pids, camids in (("query", query_pids, query_camids), ("gallery", gallery_pids, gallery_camids)):
            if len(pids) != len(camids):
                raise InputError(f"{side} camids", f"must be as many as the {side} pids ({len(pids)})", len(camids))
        self.num_queries, self.num_gallery = len(query_pids), len(gallery_pids)

        n = self.num_queries
        _, pid = np.unique(np.concatenate([query_pids, gallery_pids]), return_inverse=True)
        _, cam = np.unique(np.concatenate([query_camids, gallery_camids]), return_inverse=True)
        pid_cam = pid * (cam.max(initial=0) + 1) + cam
        per_pid = np.bincount(pid[n:], minlength=pid.max(initial=0) + 1)
        per_pid_cam = np.bincount(pid_cam[n:], minlength=pid_cam.max(initial=0) + 1)

        matches = per_pid[pid[:n]]
        self.num_positives = matches - per_pid_cam[pid_cam[:n]]
        self.max_matches = int(matches.max(initial=0))
        if not self.num_positives.any():
            raise _no_valid_query(n, self.num_gallery, int(matches.sum()))

        self._grouped = np.argsort(pid[n:])  # gallery items by identity, in any order within one
        self._first, self._matches = (np.cumsum(per_pid) - per_pid)[pid[:n]], matches
        self._query_cam, self._gallery_cam = cam[:n], cam[n:]

    def pairs(self, start: int, stop: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Same-identity pairs of the queries ``start:stop``: rows (from 0), gallery indices, and whether each is junk.

        All three have the shape ``[number of pairs]`` and are ordered by row.
        """
        matches = self._matches[start:stop]
        row = np.repeat(np.arange(stop - start), matches)
        first = self._first[start:stop] - (np.cumsum(matches) - matches)
        col = self._grouped[first[row] + np.arange(len(row))]
        return row, col, self._gallery_cam[col] == self._query_cam[start:stop][row]


def rank_queries(query: Tensor, gallery: Tensor, *labels: Labels, block_bytes: int = BLOCK_BYTES) -> RankingResult:
    """Check features, then rank them by :func:`rank_matches`. Labels are those of :class:`ProtocolMatches`."""
    matches = ProtocolMatches(*labels)
    check_features("query", query, matches.num_queries)
    check_features("gallery", gallery, matches.num_gallery)
    return rank_matches(query, gallery, matches, block_bytes=block_bytes)


@torch.no_grad()
def rank_matches(
    query: Tensor,
    gallery: Tensor,
    matches: ProtocolMatches,
    *,
    block_bytes: int = BLOCK_BYTES,
    buffer: Tensor | None = None,
) -> RankingResult:
    """Rank the gallery for every query by inner product and score the rankings.

    Args:
        query: ``[Nq, D]``, float32, L2-normalised by the caller (then the inner product is the cosine), as
            :func:`check_features` accepts them.
        gallery: ``[Ng, D]``, the same, on the same device.
        matches: of the labels.
        block_bytes: bound on the extra memory, in bytes, for any number of queries; on a GPU twice as much. The minimum
            is one row of similarities: 4 bytes per gallery item, ``1/D`` of the gallery features themselves.
        buffer: a :func:`similarity_buffer` of the same labels and ``block_bytes``, to reuse memory across calls.

    Raises:
        InputError: dimensions differ.
    """
    if query.shape[1] != gallery.shape[1]:
        shapes = f"{query.shape[1]} and {gallery.shape[1]}"
        raise InputError("query and gallery features", "must have the same dimension", shapes)
    block = similarity_buffer(query, matches, block_bytes) if buffer is None else buffer

    def product(start: int, stop: int) -> Tensor:
        return torch.mm(query[start:stop], gallery.T, out=block[: stop - start])

    return rank_scores(product, matches, block_bytes=block_bytes)


def similarity_buffer(features: Tensor, matches: ProtocolMatches, block_bytes: int = BLOCK_BYTES) -> Tensor:
    """Uninitialised memory for a block of similarities, ``[queries per block, Ng]``, on the features' device."""
    return features.new_empty(_rows_per_block(matches, block_bytes), matches.num_gallery)


def rank_scores(
    scores: Callable[[int, int], Tensor], matches: ProtocolMatches, *, block_bytes: int = BLOCK_BYTES
) -> RankingResult:
    """Rank the gallery by any scores.

    ``scores(start, stop)`` returns those of the queries ``start:stop``, finite float32 ``[stop - start, Ng]``, higher
    is better. The tensor is overwritten.
    """
    num_queries = matches.num_queries
    rows_per_block = _rows_per_block(matches, block_bytes)
    average_precision, inverse_penalty = np.full((2, num_queries), np.nan)
    first_hit = np.zeros(num_queries, dtype=np.int64)

    for start in range(0, num_queries, rows_per_block):
        stop = min(start + rows_per_block, num_queries)
        similarity = scores(start, stop)
        row, col, junk = matches.pairs(start, stop)
        gone = torch.from_numpy(np.stack([row[junk], col[junk]])).to(similarity.device)
        similarity[gone[0], gone[1]] = -inf  # below every positive
        rank = ranks_by_row(similarity, row[~junk], col[~junk], block_bytes=block_bytes)

        count = matches.num_positives[start:stop]
        kept = count > 0
        first = (np.cumsum(count) - count)[kept]  # position of each valid query's best positive
        count = count[kept]
        ordinal = np.arange(len(rank)) - np.repeat(first, count) + 1
        if len(first):
            average_precision[start:stop][kept] = np.add.reduceat(ordinal / rank, first) / count
            inverse_penalty[start:stop][kept] = count / rank[first + count - 1]
            first_hit[start:stop][kept] = rank[first]
    return RankingResult(average_precision, inverse_penalty, first_hit, matches.num_positives > 0)


def check_features(side: str, features: Tensor, num_labels: int) -> None:
    """Reject features ``[N, D]`` that are not one per label, not float32, or not finite; name the side and the row."""
    if features.ndim != 2 or len(features) != num_labels:
        raise InputError(f"{side} features", f"must have the shape [{num_labels}, D]", list(features.shape))
    if features.dtype != torch.float32:
        raise InputError(f"{side} features", "must be float32", features.dtype)
    bad = torch.nonzero(~torch.isfinite(features.sum(dim=1)))  # a sum keeps NaN and infinity, and needs no mask [N, D]
    if len(bad):
        found = f"NaN or infinity in row {int(bad[0])} ({len(bad)} such rows)"
        raise InputError(f"{side} features", "must be finite", found)


def _rows_per_block(matches: ProtocolMatches, block_bytes: int) -> int:
    """Queries per block: room for their similarities and pairs, and for ranking one row."""
    free = block_bytes - RANK_BYTES * matches.num_gallery
    return max(1, min(free // (4 * matches.num_gallery + PAIR_BYTES * matches.max_matches), matches.num_queries))


def _no_valid_query(num_queries: int, num_gallery: int, num_matches: int) -> NoValidQueryError:
    if num_matches == 0:
        cause = "no query identity appears in the gallery: take both sides from one split, with the same identities"
    else:
        cause = (
            "every match has the query's own camera and is removed: set distinct camera ids "
            "(for images without cameras: 0 for all queries, 1 for all gallery items)"
        )
    found = f"{num_queries} queries, {num_gallery} gallery items, {num_matches} same-identity pairs"
    return NoValidQueryError("query and gallery", f"no query has a positive in the gallery; {cause}", found)
