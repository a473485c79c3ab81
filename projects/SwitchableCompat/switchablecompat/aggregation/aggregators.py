"""Aggregators: from Gram matrices of the sub-models' gradients to the weights of their sum."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor

from . import gram

SUPPORTS = ("full", "pairwise")
PROTECTED = ("none", "full")


class Aggregator(ABC):
    """Function of Gram matrices."""

    @abstractmethod
    def __call__(self, shell_grams: Tensor, generator: torch.Generator, factors: Tensor | None = None) -> Tensor:
        """Weights of the gradients.

        Args:
            shell_grams: [groups, R, m, m] float64, one matrix for each shell; their sum is that of the whole group.
            generator: Source of any randomness (a CPU generator; the same on every rank).
            factors: [m] or [groups, m] float64, how much each loss counts; the gradients have these factors already.
                By default all count alike. Only projection reads them.

        Returns:
            [groups, R, m]: the aggregate is sum_j weights[g, r, j] g_j on the elements of group g and shell r.
        """

    def __repr__(self) -> str:
        return type(self).__name__

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs to continue; most aggregators keep nothing."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from :meth:`state_dict`, whose keys are attributes."""
        for key, value in state.items():
            setattr(self, key, value)


class SumAggregator(Aggregator):
    """Plain summation: every weight is 1 (joint training, BCT-S)."""

    def __call__(self, shell_grams: Tensor, generator: torch.Generator, factors: Tensor | None = None) -> Tensor:
        return shell_grams.new_ones(shell_grams.shape[:-1])


class GradientProjection(Aggregator):
    """PCGrad in Gram form; conflicting gradients are projected to the orthogonal direction, then summed.

    Where losses do not count alike, what sub-model i gives up to j is proportional to what j's loss counts beside i's
    (:func:`.gram.yields`). Every weight is at least 1, without conflict all are exactly 1; the weights do not change
    with a common scale.

    The inner products of one batch are mostly noise: of d numbers that have nothing in common the cosine is about
    1/sqrt(d), and negative half of the time. With a memory, conflicts are those of the running mean of the Gram
    matrices, and so are the shares that are taken away (ours). The state belongs into checkpoints.

    Args:
        support: ``full``: over the whole flattened gradient; ``pairwise``: over what both sub-models of a pair own,
            so that a small sub-model is never projected into channels it does not have.
        protect: ``none``: all give up what conflicts; ``full``: the full model gives up nothing, and the others give
            up what conflicts with it and nothing to each other.
        memory: Share of the past in the running mean, in [0, 1); 0: every batch on its own.
    """

    def __init__(self, support: str = "pairwise", protect: str = "none", memory: float = 0.0) -> None:
        if support not in SUPPORTS:
            raise ValueError(f"support must be one of {SUPPORTS}, found {support!r}")
        if protect not in PROTECTED:
            raise ValueError(f"protect must be one of {PROTECTED}, found {protect!r}")
        if not 0 <= memory < 1:
            raise ValueError(f"memory must be in [0, 1), found {memory}")
        self.support, self.protect, self.memory = support, protect, memory
        self.mean: Tensor | None = None

    def state_dict(self) -> dict[str, Any]:
        return {"mean": self.mean} if self.memory else {}

    def __call__(self, shell_grams: Tensor, generator: torch.Generator, factors: Tensor | None = None) -> Tensor:
        m = shell_grams.shape[-1]
        orders = gram.random_orders(m, generator)
        shares = None if factors is None else gram.yields(factors)
        if self.protect == "full":
            to_full = shell_grams.new_zeros(m, m)
            to_full[:-1, -1] = 1.0
            shares = to_full if shares is None else shares * to_full
        if self.memory:
            shell_grams = self._remember(shell_grams)
        if self.support == "full":
            coefficients = gram.projection_coefficients(gram.full_grams(shell_grams), orders, shares)
            return gram.full_weights(coefficients, shell_grams.shape[-3])
        coefficients = gram.projection_coefficients(gram.pairwise_grams(shell_grams), orders, shares)
        return gram.pairwise_weights(coefficients)

    def _remember(self, shell_grams: Tensor) -> Tensor:
        """The running mean with this batch in it; a group that overflowed, whose step is skipped, leaves no trace."""
        before = torch.zeros_like(shell_grams) if self.mean is None else self.mean.to(shell_grams)
        share = 1.0 if self.mean is None else 1.0 - self.memory
        finite = shell_grams.isfinite().flatten(1).all(dim=1)[:, None, None, None]
        self.mean = before + share * (shell_grams - before).where(finite, 0.0)
        return self.mean
