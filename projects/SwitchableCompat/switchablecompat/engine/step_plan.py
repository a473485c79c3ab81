"""Plan of a step: which sub-models it trains, and with which loss factors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from fastreid.config import CfgNode

from ..errors import InputError


@dataclass(frozen=True)
class StepPlan:
    """Sub-models and loss factors of each step. They depend only on seed and iteration, on any rank.

    Attributes:
        count: Number of sub-models m.
        weights: Factor on the losses of each sub-model, smallest first. Empty: 1 for each.
        slow_start: Number of iterations in which the factors of all but the full model rise linearly from 0.
        sandwich: Number of random sub-models that a step trains in addition to the smallest and the full model (the
            sandwich rule, Yu & Huang, "Universally Slimmable Networks", ICCV 2019, section 3.2). 0: all.
    """

    count: int
    weights: Sequence[float] = ()
    slow_start: int = 0
    sandwich: int = 0
    seed: int = 0

    @classmethod
    def from_config(cls, cfg: CfgNode, count: int, iterations: int) -> StepPlan:
        """Read ``MODEL.SWITCHABLE`` for a network of ``count`` sub-models. If it is 1, factors are ignored."""
        node = cfg.MODEL.SWITCHABLE
        _check(node, len(node.WIDTHS))
        if count == 1:
            return cls(count)
        return cls(count, tuple(node.LOSS_WEIGHTS), round(node.SLOW_START * iterations), node.SANDWICH, cfg.SEED)

    def submodels(self, iteration: int) -> list[int]:
        """The sub-models of a step, the full model first."""
        everyone = list(range(self.count - 1, -1, -1))
        between = self.count - 2
        if not 0 < self.sandwich < between:
            return everyone
        # A separate stream: the choice must not depend on the aggregator's orders, which also come from (seed,
        # iteration).
        generator = torch.Generator().manual_seed((self.seed * 1_000_003 + iteration) % 2**62 + 2**62)
        drawn = torch.randperm(between, generator=generator)[: self.sandwich] + 1
        return [index for index in everyone if index in (0, self.count - 1, *drawn.tolist())]

    def factor(self, index: int, iteration: int) -> float:
        """Factor on the losses of sub-model ``index``."""
        weight = self.weights[index] if self.weights else 1.0
        if index == self.count - 1 or iteration >= self.slow_start:
            return weight
        return weight * (iteration + 1) / (self.slow_start + 1)


def _check(node: CfgNode, widths: int) -> None:
    weights = list(node.LOSS_WEIGHTS)
    positive = all(isinstance(w, int | float) and not isinstance(w, bool) and 0 < w < math.inf for w in weights)
    if weights and (len(weights) != widths or not positive):
        rule = f"must be empty, or one positive factor for each of the {widths} widths"
        raise InputError("MODEL.SWITCHABLE.LOSS_WEIGHTS", rule, weights)
    most = max(widths - 2, 0)
    if not 0 <= node.SANDWICH <= most:
        rule = f"must be between 0 and {most}, the widths between the smallest and the full model"
        raise InputError("MODEL.SWITCHABLE.SANDWICH", rule, node.SANDWICH)
