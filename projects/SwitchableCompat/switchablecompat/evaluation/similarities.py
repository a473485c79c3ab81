"""Similarities of genuine and impostor pairs: exact counts per step of similarity, block by block.

A pair is a query and a gallery item. It is *genuine* if both show the same identity in different cameras, *junk* (left
out) if the camera is the same too, and an *impostor* pair if the identities differ, in any cameras. So the counted
items are exactly those that the grid's protocol ranks.

Shapes: ``Nq`` queries, ``Ng`` gallery items, ``D`` dimensions, ``S = 2 * STEPS + 1`` steps.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError
from .ranking import BLOCK_BYTES, PAIR_BYTES, ProtocolMatches

STEPS = 10_000  # per unit of similarity, so that thresholds have four decimals
ROW_BYTES = 32  # per similarity of a block: the value, scaled, as an integer, and clipped


@dataclass(frozen=True, eq=False)
class SimilarityCounts:
    """Number of pairs per step of similarity. Counts of several cells can be added.

    Step ``i`` holds the cosines in ``[t, t + 1/STEPS)`` with ``t = (i - STEPS) / STEPS``. Cosines that rounding carries
    past -1 or 1 are in the first or the last step. So the number of pairs at or above a threshold of four decimals is
    exact.

    Attributes:
        genuine: ``[S]`` int64.
        impostor: ``[S]`` int64.
    """

    genuine: np.ndarray
    impostor: np.ndarray

    def __add__(self, other: SimilarityCounts) -> SimilarityCounts:
        return SimilarityCounts(self.genuine + other.genuine, self.impostor + other.impostor)

    @property
    def num_genuine(self) -> int:
        return int(self.genuine.sum())

    @property
    def num_impostor(self) -> int:
        return int(self.impostor.sum())

    def histogram(self, steps_per_bin: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Coarser bins: lower edges, genuine pairs and impostor pairs. The last bin holds only the similarity 1."""
        starts = np.arange(0, len(self.genuine), steps_per_bin)
        genuine, impostor = (np.add.reduceat(counts, starts) for counts in (self.genuine, self.impostor))
        return (starts - STEPS) / STEPS, genuine, impostor


@torch.no_grad()
def count_similarities(
    query_features: Tensor, gallery_features: Tensor, matches: ProtocolMatches, *, block_bytes: int = BLOCK_BYTES
) -> SimilarityCounts:
    """Count the pairs of one (query sub-model, gallery sub-model) cell.

    Features ``[Nq, D]`` and ``[Ng, D]`` are float32, finite, L2-normalised by the caller, and on one device. The extra
    memory is at most ``block_bytes``, but at least :data:`ROW_BYTES` per gallery item.

    Raises:
        InputError: features do not fit the labels or each other.
    """
    expected = [(matches.num_queries, query_features.shape[1]), (matches.num_gallery, query_features.shape[1])]
    found = [tuple(query_features.shape), tuple(gallery_features.shape)]
    if found != expected:
        raise InputError("query and gallery features", f"must have the shapes {expected}", found)
    row_bytes = ROW_BYTES * matches.num_gallery + PAIR_BYTES * matches.max_matches
    rows = max(1, min(block_bytes // row_bytes, matches.num_queries))
    genuine, impostor = np.zeros((2, 2 * STEPS + 1), dtype=np.int64)
    for start in range(0, matches.num_queries, rows):
        stop = min(start + rows, matches.num_queries)
        step = _steps((query_features[start:stop] @ gallery_features.T).cpu().numpy())
        row, col, junk = matches.pairs(start, stop)
        same = step[row, col]
        genuine += _count(same[~junk])
        impostor += _count(step.reshape(-1)) - _count(same)
    return SimilarityCounts(genuine, impostor)


def _steps(similarity: np.ndarray) -> np.ndarray:
    """Index of the step of each float32 cosine.

    The result is exact: a float32 has 24 significant bits, and ``STEPS = 2^4 * 625`` adds 10, so the product fits into
    the 53 bits of a float64. Rounding down gives the largest k with ``k / STEPS <= similarity``.
    """
    scaled = similarity.astype(np.float64)
    scaled *= STEPS
    return np.clip(np.floor(scaled, out=scaled).astype(np.int64), -STEPS, STEPS) + STEPS


def _count(step: np.ndarray) -> np.ndarray:
    return np.bincount(step, minlength=2 * STEPS + 1)
