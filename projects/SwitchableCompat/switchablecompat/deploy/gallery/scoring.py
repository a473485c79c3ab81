"""Metrics of rankings that a search engine returned, possibly incomplete: FastReID's metrics, and recall.

The definitions are those of :mod:`switchablecompat.evaluation.ranking`, which ranks features itself. A positive that
was not returned has no rank, and adds nothing to the average precision ``AP = 1/n * sum of i / r_i over the found
positives``. For complete rankings both modules give the same.
"""

from collections.abc import Iterable, Sequence

import faiss
import numpy as np

from ...evaluation.ranking import Labels, ProtocolMatches, RankingResult
from ..features.feature_file import FeatureFile, feature_blocks
from .faiss_gallery import Gallery
from .milvus_gallery import MilvusGallery

NOT_FOUND = np.iinfo(np.int64).max  # first rank of a query that found none of its positives: beyond any rank k


def score_lists(
    lists: Iterable[np.ndarray], query_pids: Labels, gallery_pids: Labels, query_camids: Labels, gallery_camids: Labels
) -> RankingResult:
    """Score rankings of gallery items.

    Args:
        lists: Blocks ``[B, k]`` of gallery indices, best first, -1 for no item; together one row per query.
        query_pids, gallery_pids, query_camids, gallery_camids: labels ``[Nq]``, ``[Ng]`` that NumPy can sort.

    Returns:
        The metrics. If a valid query found none of its positives, its ``first_hit_rank`` is ``NOT_FOUND``, and its
        inverse negative penalty is 0. Without any valid query, :class:`NoValidQueryError` is raised.
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
        first[block] = np.where(hit, rank, NOT_FOUND).min(axis=1)
    precision[~valid] = penalty[~valid] = np.nan
    first[~valid] = 0
    return RankingResult(precision, penalty, first, valid)


def _numbered(query: Labels, gallery: Labels) -> tuple[np.ndarray, np.ndarray]:
    """Labels as integers, which compare faster than names."""
    numbers = np.unique(np.concatenate([np.asarray(query), np.asarray(gallery)]), return_inverse=True)[1]
    return numbers[: len(query)], numbers[len(query) :]


def exact_neighbours(files: Sequence[FeatureFile], queries: np.ndarray, top: int) -> np.ndarray:
    """Rows (in the order of the files) of the ``top`` features with the highest inner products, block by block.

    ``queries`` are ``[Nq, D]`` float32; the result is ``[Nq, top]``, best first.
    """
    scores = np.empty((len(queries), 0), dtype=np.float32)
    rows = np.empty((len(queries), 0), dtype=np.int64)
    start = 0
    for _, features in feature_blocks(files, "Exact ranking"):
        found = faiss.knn(queries, features, min(top, len(features)), metric=faiss.METRIC_INNER_PRODUCT)
        scores = np.concatenate([scores, found[0]], axis=1)
        rows = np.concatenate([rows, found[1] + start], axis=1)
        best = np.argsort(-scores, axis=1, kind="stable")[:, :top]
        scores, rows = np.take_along_axis(scores, best, axis=1), np.take_along_axis(rows, best, axis=1)
        start += len(features)
    return rows


def recall(gallery: Gallery | MilvusGallery, queries: np.ndarray, exact: np.ndarray) -> float:
    """Share of the exact neighbours that a search for as many items finds, in per cent, averaged over the queries."""
    found = gallery.search(queries, exact.shape[1])[1]
    shares = [len(np.intersect1d(ours, theirs)) / len(theirs) for ours, theirs in zip(found, exact, strict=True)]
    return 100 * float(np.mean(shares))
