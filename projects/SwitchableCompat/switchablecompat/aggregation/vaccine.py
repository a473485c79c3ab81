"""Gradient Vaccine: turn gradients towards each other until their cosine reaches its running target."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .aggregators import WholeAggregator
from .gram import random_orders


class GradVac(WholeAggregator):
    """PCGrad with a running target for the cosine of each pair, instead of zero.

    Wang et al., "Gradient Vaccine", ICLR 2021 (Algorithm 1). The targets [groups, m, m] are a state that belongs into
    checkpoints.

    Args:
        beta: Weight of the newest cosine in its target.
    """

    def __init__(self, beta: float = 0.01) -> None:
        if not 0 <= beta <= 1:
            raise ValueError(f"beta must be in [0, 1], found {beta}")
        self.beta = beta
        self.targets: Tensor | None = None

    def state_dict(self) -> dict[str, Any]:
        return {"targets": self.targets}

    def group_weights(self, grams: Tensor, generator: torch.Generator) -> Tensor:
        m = grams.shape[-1]
        targets = torch.zeros_like(grams) if self.targets is None else self.targets.to(grams).clone()
        coefficients = torch.eye(m, dtype=grams.dtype, device=grams.device).expand_as(grams).clone()
        norms = grams.diagonal(dim1=-2, dim2=-1).clamp_min(0).sqrt()
        for i, order in enumerate(random_orders(m, generator).tolist()):
            row = coefficients[..., i, :]
            for j in order:
                products = (grams @ row.unsqueeze(-1)).squeeze(-1)  # inner products of v_i with every g_k
                own = (products * row).sum(dim=-1).clamp_min(0).sqrt()
                both = own * norms[..., j]
                there = both > 0
                cosine = (products[..., j] / both.where(there, 1.0)).clamp(-1, 1)
                there = there & cosine.isfinite()  # ignore an overflow; its step is skipped
                target = targets[..., i, j].clamp(-1 + 1e-6, 1 - 1e-6)
                sine, target_sine = (1 - cosine.square()).sqrt(), (1 - target.square()).sqrt()
                added = own * (target * sine - cosine * target_sine) / (norms[..., j].where(there, 1.0) * target_sine)
                row[..., j] += added.where(there & (cosine < target), 0.0)
                targets[..., i, j] += (self.beta * (cosine - targets[..., i, j])).where(there, 0.0)
        self.targets = targets
        return coefficients.sum(dim=-2)
