"""PrunNet's conflict-aware gradient integration: project once against the originals, weight by what is left."""

from __future__ import annotations

import torch
from torch import Tensor

from .aggregators import WholeAggregator, present
from .gram import cosines


class ConflictAwareIntegration(WholeAggregator):
    """Each gradient minus its components along all that conflict with it; those that had to turn least count most.

    PrunNet (CVPR 2025), CGI: g^_i = g_i - sum_{j: g_i.g_j < 0} (g_i.g_j / ||g_j||^2) g_j, from the original and not
    one after the other; c_i = ((cos(g^_i, g_i) + 1) / 2)^p; the update is n sum_i (c_i / sum c) g^_i for n gradients.

    Args:
        power: p.
    """

    def __init__(self, power: float = 1.0) -> None:
        if power < 0:
            raise ValueError(f"power must not be negative, found {power}")
        self.power = power

    def group_weights(self, grams: Tensor, generator: torch.Generator) -> Tensor:
        m = grams.shape[-1]
        there = present(grams)
        norms2 = grams.diagonal(dim1=-2, dim2=-1)
        eye = torch.eye(m, dtype=grams.dtype, device=grams.device)
        conflict = (grams < 0) & there.unsqueeze(-2)
        coefficients = eye - (grams / norms2.where(there, 1.0).unsqueeze(-2)).where(conflict, 0.0)
        # Gram matrix of the originals and the projected ones, for the cosine of each pair of them
        both = torch.cat((eye.expand_as(grams), coefficients), dim=-2)
        turned = cosines(both @ grams @ both.mT)[..., :m, m:].diagonal(dim1=-2, dim2=-1)
        confidence = ((turned + 1) / 2).clamp_min(0).pow(self.power) * there
        share = confidence / confidence.sum(dim=-1, keepdim=True).clamp_min(1e-300)
        return (share.unsqueeze(-1) * coefficients).sum(dim=-2) * there.sum(dim=-1, keepdim=True)
