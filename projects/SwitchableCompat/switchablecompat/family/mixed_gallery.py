"""A mixed gallery: retrieval while a gallery is being re-encoded by a larger sub-model, item by item.

During an upgrade similarities from two cells of the grid compete. If these are not on the same scale, a mixed gallery
can be worse than before or after the upgrade. Shapes: ``Nq`` queries, ``Ng`` gallery items, ``D`` dimensions.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..evaluation.ranking import BLOCK_BYTES, ProtocolMatches, rank_matches, similarity_buffer
from ..evaluation.task import RetrievalTask
from ..widths import width_name

SHARES = tuple(range(0, 101, 10))  # per cent of the gallery
NEIGHBOURS = 10
RANDOM_ORDERS = 3

logger = logging.getLogger("fastreid.switchablecompat.evaluation")


@dataclass(frozen=True)
class MixedGallery:
    """mAP in per cent while the ``old``, smallest sub-model's gallery is re-encoded by the ``new``, largest.

    By name of the query sub-model, ``random`` has one curve over the ``shares`` (in per cent) per random order (seeds
    0, 1, ...), and ``isolated`` the curve for the order of :func:`isolated_first`.
    """

    old: str
    new: str
    shares: Sequence[float]
    random: Mapping[str, list[list[float]]]
    isolated: Mapping[str, list[float]]


def mix_galleries(task: RetrievalTask) -> MixedGallery | None:
    """The curves for queries by the smallest and the largest sub-model.

    None if a cell that they need is not defined, or there is only one sub-model.
    """
    ends = {width_name(task.widths[end]): end for end in (0, -1)}
    last = len(task.widths) - 1
    if last == 0 or not {(0, 0), (0, last), (last, 0), (last, last)} <= {*task.cells}:
        return None
    old, new = task.gallery[0], task.gallery[-1]
    orders = [random_order(len(old), seed) for seed in range(RANDOM_ORDERS)]
    best = isolated_first(old)
    random, isolated = {}, {}
    for name, end in ends.items():
        logger.info(f"Mixed gallery, queries by {name}: {len(orders) + 1} orders of {len(SHARES)} shares each")
        *random[name], isolated[name] = (
            mixed_gallery_map(task.query[end], old, new, task.matches, order) for order in (*orders, best)
        )
    small, full = ends
    return MixedGallery(small, full, list(SHARES), random, isolated)


@torch.no_grad()
def mixed_gallery_map(
    query_features: Tensor,
    old: Tensor,
    new: Tensor,
    matches: ProtocolMatches,
    order: np.ndarray,
    *,
    shares: Sequence[float] = SHARES,
) -> list[float]:
    """mAP in per cent at each share of the gallery that is re-encoded.

    Args:
        query_features: ``[Nq, D]``, float32, L2-normalised, as all features here.
        old, new: the gallery before and after, ``[Ng, D]``.
        matches: matches of the labels.
        order: order in which the items are re-encoded, a permutation of their indices, ``[Ng]``.
        shares: in per cent, ascending. At a share the first ``round(share * Ng / 100)`` items of the order are new.
    """
    gallery, values = old.clone(), []
    buffer = similarity_buffer(query_features, matches)
    for share in shares:
        renewed = torch.as_tensor(order[: round(share * len(order) / 100)], dtype=torch.long, device=old.device)
        gallery[renewed] = new[renewed]
        values.append(rank_matches(query_features, gallery, matches, buffer=buffer).mAP)
    return values


def random_order(num_gallery: int, seed: int) -> np.ndarray:
    """A random permutation of the gallery, ``[Ng]``, determined by the seed."""
    return np.random.default_rng(seed).permutation(num_gallery)


@torch.no_grad()
def isolated_first(old: Tensor, *, neighbours: int = NEIGHBOURS, block_bytes: int = BLOCK_BYTES) -> np.ndarray:
    """Gallery items in ascending order of their mean similarity to their nearest neighbours, ``[Ng]``.

    Needs only the old features ``[Ng, D]``: no labels, no queries, no new features. An item far from all others is one
    that the old sub-model encoded badly. Queries of the new sub-model gain most if such items are re-encoded first.
    ``block_bytes`` bounds the extra memory; the minimum is one row of similarities.
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
