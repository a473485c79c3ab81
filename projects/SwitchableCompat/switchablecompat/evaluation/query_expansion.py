"""Average query expansion: every feature becomes a weighted mean of its nearest neighbours' features.

The alpha-weighted form (Radenovic et al., "Fine-tuning CNN Image Retrieval with No Human Annotation", section 3.3) of
Chum et al., "Total Recall", ICCV 2007, applied to queries and gallery alike, as FastReID's ``TEST.AQE`` does:

    x_i' = 1/k sum over the k nearest j of i (i itself among them) of s_ij^alpha x_j,   s_ij = cos(x_i, x_j).

Shapes: ``N`` images of a cell, ``D`` dimensions.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .neighbours import Neighbours, nearest


@dataclass(frozen=True)
class QueryExpansion:
    """FastReID's options ``TEST.AQE``."""

    k: int  # number of neighbours of an image, including itself
    times: int  # how often features are replaced
    alpha: float  # power of the similarities


def expand(features: Tensor, neighbours: Neighbours, options: QueryExpansion, *, block_bytes: int) -> Tensor:
    """Expanded features, L2-normalised, ``[N, D]``.

    Negative similarities keep their sign under any power: ``-|s|^alpha`` (FastReID's are NaN for a fractional one).

    Features are float32 on the CPU, L2-normalised, since lengths of different sub-models' features are not comparable.
    Neighbours are the ``options.k`` nearest images of each, ``[N, k]``; their features take at most ``block_bytes``.
    """
    for turn in range(options.times):
        if turn:
            normalised = F.normalize(features)
            neighbours = nearest(normalised, normalised, options.k)
        similarity = torch.from_numpy(neighbours.similarity)
        weights = similarity.sign() * similarity.abs() ** options.alpha
        index = torch.from_numpy(neighbours.index)
        rows = max(1, block_bytes // (8 * index.shape[1] * features.shape[1]))  # gathered, and then weighted
        blocks = zip(weights.split(rows), index.split(rows), strict=True)
        features = torch.cat([(weight[:, :, None] * features[chosen]).mean(dim=1) for weight, chosen in blocks])
    return F.normalize(features)
