"""Nearest neighbours by cosine, without a matrix of all similarities.

The images of a cell are its queries, encoded by one sub-model, and its gallery, encoded by another. They share a
feature space, so any image of the cell can be a neighbour of any other. Queries have the numbers ``0 ... Nq - 1``, and
gallery items ``Nq ... N - 1``, as in FastReID, which concatenates both.

Shapes: ``Nq`` queries, ``Ng`` gallery items, ``N = Nq + Ng``, ``D`` dimensions, ``k`` neighbours.
"""

from dataclasses import dataclass

import faiss
import numpy as np
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Neighbours:
    """The nearest images of every image, including itself, nearest first."""

    similarity: np.ndarray  # [n, k] float32
    index: np.ndarray  # numbers of the neighbours, [n, k] int64


def nearest(features: Tensor, items: Tensor, k: int) -> Neighbours:
    """The ``k`` of the items ``[m, D]`` with the greatest inner product with each feature ``[n, D]``, or all if fewer.

    Both are float32 on the CPU. FAISS searches by brute force in blocks of a fixed size.
    """
    found = faiss.knn(features.numpy(), items.numpy(), min(k, len(items)), metric=faiss.METRIC_INNER_PRODUCT)
    return Neighbours(*found)


def cell_neighbours(
    query: Tensor, gallery: Tensor, k: int, query_alone: Neighbours, gallery_alone: Neighbours
) -> Neighbours:
    """The ``k`` nearest images of every image of a cell, ``[N, k]``, or all N if there are fewer.

    Features ``[Nq, D]`` and ``[Ng, D]`` are L2-normalised, float32 on the CPU. The neighbours within each side,
    ``nearest(query, query, k)`` and the same of the gallery, serve all cells of a row or a column, so the caller passes
    them.
    """
    of_query = _merge(query_alone, nearest(query, gallery, k), k, len(query))
    of_gallery = _merge(nearest(gallery, query, k), gallery_alone, k, len(query))
    return Neighbours(
        np.concatenate([of_query.similarity, of_gallery.similarity]),
        np.concatenate([of_query.index, of_gallery.index]),
    )


def _merge(one: Neighbours, other: Neighbours, k: int, number: int) -> Neighbours:
    """The ``k`` nearest of queries and gallery items (from ``number`` on). Among ties, queries come first."""
    similarity = np.concatenate([one.similarity, other.similarity], axis=1)
    index = np.concatenate([one.index, other.index + number], axis=1)
    order = np.argsort(-similarity, axis=1, kind="stable")[:, :k]
    return Neighbours(np.take_along_axis(similarity, order, 1), np.take_along_axis(index, order, 1))
