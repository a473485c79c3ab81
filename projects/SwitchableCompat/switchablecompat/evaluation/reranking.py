"""Re-ranking by k-reciprocal neighbours, in memory that grows with the number of images, not with its square.

Zhong et al., "Re-ranking Person Re-identification with k-reciprocal Encoding", CVPR 2017, in the form that FastReID's
evaluator uses for ``TEST.RERANK`` (its ``compute_jaccard_distance``). With N(i, k) the k nearest images of i,

* R(i, k) = { j in N(i, k) : i in N(j, k) } are its k-reciprocal neighbours,
* R*(i) adds R(c, k1/2) for every c in R(i, k1) that shares more than 2/3 of it with R(i, k1),
* V_i, a vector over all images, is the softmax of -|x_i - x_j|^2 over R*(i), and zero elsewhere,
* each V_i is then replaced by the mean over N(i, k2),
* the Jaccard distance is d_J(q, g) = 1 - s / (2 - s) with s = sum_j min(V_qj, V_gj), and
* the final distance is (1 - lambda) d_J + lambda d, d = 1 - cos.

V is sparse: its rows have a few dozen entries, at most k2 k1 (k1/2 + 2). FastReID stores V, the Jaccard distances and a
copy of each as dense matrices of all images by all images. Here the Jaccard distance is computed for blocks of queries.

Shapes: ``Nq`` queries, ``Ng`` gallery items, ``N = Nq + Ng`` images of a cell, ``D`` dimensions.
"""

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array

GONE = -1  # fills rows of index arrays


@dataclass(frozen=True)
class ReRanking:
    """FastReID's options ``TEST.RERANK``."""

    k1: int  # number of neighbours of an image, including itself
    k2: int  # number of neighbours, including itself, over which an image's vector is averaged
    weight: float  # lambda, the share of the original distance


class JaccardDistance:
    """d_J between the queries and the gallery of a cell, from V ``[N, N]``, queries first."""

    def __init__(self, vectors: csr_array, num_query: int) -> None:
        self.queries = vectors[:num_query]
        self.gallery = vectors[num_query:].tocsc()

    def rows(self, start: int, stop: int) -> np.ndarray:
        """Distances of the queries ``start:stop``, ``[stop - start, Ng]`` float32."""
        distance = np.empty((stop - start, self.gallery.shape[0]), dtype=np.float32)
        for row, query in zip(distance, range(start, stop), strict=True):
            entries = slice(*self.queries.indptr[query : query + 2])
            columns, values = self.queries.indices[entries], self.queries.data[entries]
            first = self.gallery.indptr[columns]
            count = self.gallery.indptr[columns + 1] - first
            # positions of all entries of these columns, one column after the other
            where = np.arange(count.sum()) + np.repeat(first - (np.cumsum(count) - count), count)
            smaller = np.minimum(self.gallery.data[where], np.repeat(values, count))
            shared = np.bincount(self.gallery.indices[where], weights=smaller, minlength=len(row))
            row[:] = np.maximum(1 - shared / (2 - shared), 0)
        return distance


def reciprocal_vectors(features: np.ndarray, neighbours: np.ndarray, k2: int, *, block_bytes: int) -> csr_array:
    """V, averaged over the nearest ``k2`` images, ``[N, N]`` float32.

    Features ``[N, D]`` are float32, L2-normalised. Neighbours are the numbers of the k1 nearest images of each, nearest
    first, ``[N, k1]``. A block of rows takes at most ``block_bytes``.
    """
    number, k1 = neighbours.shape
    reciprocal = _reciprocal(neighbours, block_bytes)
    close = _reciprocal(neighbours[:, : round(k1 / 2) + 1], block_bytes)
    rows = max(1, block_bytes // (2 * k1 * close.shape[1] * (k1 + 16)))  # comparisons, and members with their copies
    counts, indices, data = [], [], []
    for start in range(0, number, rows):
        count, index = _expanded(reciprocal[start : start + rows], close)
        weight = np.exp(2 * (_similarities(features, start, count, index, block_bytes) - 1))
        row = np.repeat(np.arange(len(count)), count)
        data.append(weight / np.bincount(row, weights=weight, minlength=len(count)).astype(np.float32)[row])
        counts.append(count)
        indices.append(index)
    pointers = np.concatenate([[0], np.cumsum(np.concatenate(counts))])
    vectors = csr_array((np.concatenate(data), np.concatenate(indices), pointers), shape=(number, number))
    averaged = neighbours[:, :k2]
    share = np.full(averaged.size, 1 / averaged.shape[1], dtype=np.float32)
    mean = csr_array((share, averaged.ravel(), np.arange(number + 1) * averaged.shape[1]), shape=(number, number))
    return mean @ vectors


def _reciprocal(neighbours: np.ndarray, block_bytes: int) -> np.ndarray:
    """R(i, k) for neighbours ``[N, k]``: the same array, with GONE in place of neighbours that are not reciprocal."""
    number, k = neighbours.shape
    rows = max(1, block_bytes // (9 * k * k))
    result = np.empty_like(neighbours)
    for start in range(0, number, rows):
        found = neighbours[start : start + rows]
        answered = (neighbours[found] == np.arange(start, start + len(found))[:, None, None]).any(axis=2)
        result[start : start + rows] = np.where(answered, found, GONE)
    return result


def _expanded(reciprocal: np.ndarray, close: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """R* of some images, from their R(i, k1) ``[B, k1]`` and R(c, k1/2) of all ``[N, h]``.

    Returns the number of members of each, ``[B]``, and the members, ascending for each.
    """
    members = np.where((reciprocal == GONE)[:, :, None], GONE, close[reciprocal])  # [B, k1, h]
    real = members != GONE
    shared = ((members[..., None] == reciprocal[:, None, None, :]).any(axis=3) & real).sum(axis=2)
    joins = 3 * shared > 2 * real.sum(axis=2)
    members[~joins] = GONE
    together = np.sort(np.concatenate([reciprocal, members.reshape(len(members), -1)], axis=1), axis=1)
    new = together != GONE
    new[:, 1:] &= together[:, 1:] != together[:, :-1]
    return new.sum(axis=1), together[new]


def _similarities(
    features: np.ndarray, start: int, count: np.ndarray, index: np.ndarray, block_bytes: int
) -> np.ndarray:
    """Cosines of the images from ``start`` on, each with its ``count`` images in ``index``."""
    row = np.repeat(np.arange(start, start + len(count)), count)
    step = max(1, block_bytes // (8 * features.shape[1]))
    parts = [slice(first, first + step) for first in range(0, max(len(row), 1), step)]
    return np.concatenate([np.einsum("nd,nd->n", features[row[part]], features[index[part]]) for part in parts])
