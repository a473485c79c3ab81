"""Rehearsal of an upgrade: retrieval while a gallery is being re-encoded by a larger sub-model, item by item.

A cell of the grid has a gallery of one sub-model. While a gallery is upgraded it holds features of two, and items
compete whose similarities come from two different cells. If these are not on one scale, a mixed gallery can be worse
than either end; the grid cannot show that.

Shapes: ``Nq`` queries, ``Ng`` gallery items, ``D`` dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from .ranking import BLOCK_BYTES, ProtocolMatches, rank_matches, similarity_buffer

SHARES = tuple(range(0, 101, 10))  # per cent of the gallery
NEIGHBOURS = 10


@torch.no_grad()
def mixed_gallery_map(
    query_features: Tensor,
    old: Tensor,
    new: Tensor,
    matches: ProtocolMatches,
    order: np.ndarray,
    *,
    shares: Sequence[float] = SHARES,
    block_bytes: int = BLOCK_BYTES,
) -> list[float]:
    """mAP in per cent at each share of the gallery that is re-encoded.

    Args:
        query_features: ``[Nq, D]``, float32, L2-normalised, as all features here.
        old: the gallery before, ``[Ng, D]``.
        new: the gallery after, ``[Ng, D]``.
        matches: of the labels.
        order: in which the items are re-encoded, a permutation of their indices, ``[Ng]``.
        shares: in per cent, ascending; at a share the first ``round(share * Ng / 100)`` items of the order are new.
        block_bytes: see :func:`~.ranking.rank_queries`; one more copy of the gallery comes on top.
    """
    gallery, values = old.clone(), []
    buffer = similarity_buffer(query_features, matches, block_bytes)
    for share in shares:
        renewed = torch.as_tensor(order[: round(share * len(order) / 100)], dtype=torch.long, device=old.device)
        gallery[renewed] = new[renewed]
        ranking = rank_matches(query_features, gallery, matches, block_bytes=block_bytes, buffer=buffer)
        values.append(ranking.mAP)
    return values


def random_order(num_gallery: int, seed: int) -> np.ndarray:
    """A random permutation of the gallery, ``[Ng]``, that the seed decides."""
    return np.random.default_rng(seed).permutation(num_gallery)


@torch.no_grad()
def isolated_first(old: Tensor, *, neighbours: int = NEIGHBOURS, block_bytes: int = BLOCK_BYTES) -> np.ndarray:
    """Gallery items in ascending order of their mean similarity to their nearest neighbours, ``[Ng]``.

    Needs the old features alone: no labels, no queries, no new features. An item far from all others is one that the
    old sub-model could not place; re-encoding it first brings most to queries of the new sub-model.

    Args:
        old: the gallery before, ``[Ng, D]``, float32, L2-normalised.
        neighbours: how many to average over.
        block_bytes: bound on the extra memory; the floor is one row of similarities.
    """
    count = len(old)
    neighbours = min(neighbours, count - 1)
    if neighbours < 1:
        return np.arange(count)
    rows = max(1, block_bytes // (16 * count))
    means = []
    for start in range(0, count, rows):
        similarity = old[start : start + rows] @ old.T
        similarity[torch.arange(len(similarity)), torch.arange(start, start + len(similarity))] = -torch.inf
        means.append(similarity.topk(neighbours, dim=1).values.mean(dim=1).cpu())
    return torch.cat(means).argsort(stable=True).numpy()
