"""What an approximate index loses against ranking all features exactly."""

from __future__ import annotations

from collections.abc import Sequence

import faiss
import numpy as np

from ..features.feature_file import FeatureFile, feature_blocks
from ..gallery.searchable import SearchableGallery


def exact_neighbours(files: Sequence[FeatureFile], queries: np.ndarray, top: int) -> np.ndarray:
    """Rows, in the order of the files, of the ``top`` features with the highest inner product; block by block.

    Args:
        files: of all features, N in number.
        queries: ``[Nq, D]`` float32.
        top: k, at most N.

    Returns:
        ``[Nq, k]``, best first.
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


def recall(gallery: SearchableGallery, queries: np.ndarray, exact: np.ndarray) -> float:
    """Share of the exact neighbours that a search of the same length finds, in per cent, mean over the queries."""
    found = gallery.search(queries, exact.shape[1])[1]
    shares = [len(np.intersect1d(ours, theirs)) / len(theirs) for ours, theirs in zip(found, exact, strict=True)]
    return 100 * float(np.mean(shares))
