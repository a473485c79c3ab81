"""UPGrad: project every gradient so that it conflicts with no other, then sum."""

from __future__ import annotations

import torch
from torch import Tensor

from .aggregators import WholeAggregator
from .quadratic import orthant_minimum


class UPGrad(WholeAggregator):
    """Sum of the gradients, each projected onto the dual cone of all of them.

    Quinton & Rey, "Jacobian Descent for Multi-Objective Optimization", 2024 (arXiv 2406.16232, proposition 1): the
    projection of g_i is sum_j v_j g_j where v minimises ||sum_j v_j g_j|| over v >= e_i. PCGrad removes conflicts one
    at a time, so some may remain. Here no gradient conflicts with the result.
    """

    def group_weights(self, grams: Tensor, generator: torch.Generator) -> Tensor:
        m = grams.shape[-1]
        problems = grams.unsqueeze(-3).expand(*grams.shape[:-2], m, m, m)
        # v = e_i + u, u >= 0: u'Gu/2 + (G e_i)'u
        u = orthant_minimum(problems, grams)
        return (torch.eye(m, dtype=grams.dtype, device=grams.device) + u).sum(dim=-2)
