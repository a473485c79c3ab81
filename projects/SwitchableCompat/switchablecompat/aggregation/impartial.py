"""IMTL-G: the combination with equal projections on the directions of all gradients."""

from __future__ import annotations

import torch
from torch import Tensor

from .aggregators import WholeAggregator, present


class IMTLG(WholeAggregator):
    """Impartial multi-task learning (gradient balance), times the number of gradients.

    Liu et al., "Towards Impartial Multi-task Learning", ICLR 2021 (section 3.1): weights that sum to 1 and give equal
    g.u_i for all i, where u_i = g_i / ||g_i||. This means that G w is proportional to the norms. Weights may be
    negative. If they cannot be scaled to sum to 1, the gradients are summed.
    """

    def group_weights(self, grams: Tensor, generator: torch.Generator) -> Tensor:
        there = present(grams)
        norms = grams.diagonal(dim1=-2, dim2=-1).clamp_min(0).sqrt()
        largest = norms.amax(dim=-1)
        scale = torch.where(largest > 0, largest, 1.0)
        inverse = torch.linalg.pinv(grams / scale[..., None, None].square(), hermitian=True)
        w = (inverse @ (norms / scale[..., None]).unsqueeze(-1)).squeeze(-1)
        total = w.sum(dim=-1, keepdim=True)
        usable = total.abs() > 1e-6 * w.abs().sum(dim=-1, keepdim=True)
        count = there.sum(dim=-1, keepdim=True)
        return torch.where(usable, w / total.where(usable, 1.0) * count, there.to(w.dtype))
