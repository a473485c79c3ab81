"""Aggregators: they map Gram matrices of the sub-models' gradients to the weights of their sum."""

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor

from . import gram

SUPPORTS = ("full", "pairwise")
PROTECTED = ("none", "full")


class Aggregator(ABC):
    """Maps Gram matrices of gradients to weights of the gradients."""

    @abstractmethod
    def __call__(self, shell_grams: Tensor, generator: torch.Generator, factors: Tensor | None = None) -> Tensor:
        """Weights of the gradients.

        Args:
            shell_grams: [groups, R, m, m] float64, one matrix for each shell; their sum is that of the whole group.
            generator: Source of any randomness (a CPU generator; the same on every rank).
            factors: [m] or [groups, m] float64, how much each loss counts; the gradients have these factors already.
                By default all count alike. Only projection reads them.

        Returns:
            [groups, R, m]. On the elements of group g and shell r, the aggregate is sum_j weights[g, r, j] g_j.
        """

    def __repr__(self) -> str:
        return type(self).__name__

    def state_dict(self) -> dict[str, Any]:
        """State for checkpoints. Most aggregators have none."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore :meth:`state_dict`; its keys are names of attributes."""
        for key, value in state.items():
            setattr(self, key, value)


class SumAggregator(Aggregator):
    """The plain sum: every weight is 1 (joint training, BCT-S)."""

    def __call__(self, shell_grams: Tensor, generator: torch.Generator, factors: Tensor | None = None) -> Tensor:
        return shell_grams.new_ones(shell_grams.shape[:-1])


class GradientProjection(Aggregator):
    """PCGrad in Gram form: removes from each gradient what conflicts with the others, then sums.

    If losses have different factors, the share that sub-model i gives up to j follows the ratio of j's factor to i's
    (:func:`.gram.yields`). Every weight is at least 1. Without a conflict, all weights are exactly 1. A common scale of
    the gradients does not change the weights.

    The inner products of one batch are mostly noise. Two unrelated vectors of d numbers have a cosine of about
    1/sqrt(d), which is negative half of the time. With a memory (ours), the running mean of the Gram matrices
    determines the conflicts and the parts to remove. The running mean belongs into checkpoints.

    Args:
        support: Parameters over which two gradients are compared. ``full``: all. ``pairwise``: those that both
            sub-models own, so that the projection never moves a small sub-model into channels that it does not have.
        protect: ``none``: all gradients give up what conflicts. ``full``: the full model gives up nothing; the others
            give up what conflicts with the full model, and nothing to each other.
        memory: Weight of the past in the running mean, in [0, 1). 0: the current batch only.
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
            to_full[:-1, -1].fill_(1.0)
            shares = to_full if shares is None else shares * to_full
        if self.memory:
            shell_grams = self._remember(shell_grams, factors)
        if self.support == "full":
            coefficients = gram.projection_coefficients(gram.full_grams(shell_grams), orders, shares)
            return gram.full_weights(coefficients, shell_grams.shape[-3])
        coefficients = gram.projection_coefficients(gram.pairwise_grams(shell_grams), orders, shares)
        return gram.pairwise_weights(coefficients)

    def _remember(self, shell_grams: Tensor, factors: Tensor | None) -> Tensor:
        """Update the running mean with this batch, and return it for the pairs of sub-models that the step trains.

        A step that leaves a sub-model out (factor 0 in all groups) leaves the means of its pairs as they are. Nor do
        groups count that overflowed, because their step is skipped.
        """
        before = torch.zeros_like(shell_grams) if self.mean is None else self.mean.to(shell_grams)
        unknown = (before == 0).flatten(0, 1).all(dim=0)  # pairs that no step has trained yet
        share = shell_grams.new_full(unknown.shape, 1.0 - self.memory).masked_fill_(unknown, 1.0)
        taken = shell_grams.isfinite().flatten(1).all(dim=1)[:, None, None, None]
        pairs = torch.ones_like(unknown)
        if factors is not None:
            trained = (factors > 0).view(-1, factors.shape[-1]).any(dim=0)
            pairs = trained.unsqueeze(-1) & trained
        self.mean = before + share * (shell_grams - before).where(taken & pairs, 0.0)
        return self.mean.where(pairs, 0.0)
