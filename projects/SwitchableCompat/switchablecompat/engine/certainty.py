"""Certainty of each sub-model about each class, and the resulting shares in the shared class vectors."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from fastreid.config import CfgNode
from fastreid.utils import comm
from torch import Tensor

from ..modeling import SwitchableBaseline

MEMORY = 0.9  # decay of the running means, per step that shows the class


class ClassCertainty:
    """Running mean of the expected probability of the correct class, for each of m sub-models and K classes.

    ``factors`` are the shares of the sub-models in a class vector, (p_i - 1/K)^gamma / sum_j (p_j - 1/K)^gamma. A
    sub-model that is no better than chance for a class does not train its vector. Shares sum to 1 over the sub-models
    of a step, so the vector learns at the rate of one network. gamma is ``power``. The state belongs into checkpoints.
    """

    def __init__(self, m: int, classes: int, power: float) -> None:
        self.power = power
        self.probabilities = torch.full((classes, m), 1.0 / classes)

    @classmethod
    def from_config(cls, cfg: CfgNode, model: SwitchableBaseline) -> ClassCertainty | None:
        """Build it if ``MODEL.SWITCHABLE.CLASSIFIER_GRAD`` is ``certain``; otherwise return None."""
        if cfg.MODEL.SWITCHABLE.CLASSIFIER_GRAD != "certain":
            return None
        return cls(len(model.switch), len(model.heads.weight), cfg.MODEL.LOSSES.COMPAT.CERTAINTY_POWER)

    def state_dict(self) -> dict[str, Any]:
        return {"probabilities": self.probabilities}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.probabilities = state["probabilities"]

    @torch.no_grad()
    def update(self, index: int, labels: Tensor, certainty: Tensor) -> None:
        """Update the means of sub-model ``index`` with a batch: identities [N] and expected probabilities [N]."""
        self.probabilities = self.probabilities.to(certainty.device)
        sums = _sums_by_class(labels, torch.stack((certainty, torch.ones_like(certainty))), len(self.probabilities))
        if comm.get_world_size() > 1:
            torch.distributed.all_reduce(sums)
        seen = sums[1] > 0
        means = sums[0] / sums[1].clamp_min(1)
        own = self.probabilities[:, index]
        self.probabilities[:, index] = torch.where(seen & means.isfinite(), MEMORY * own + (1 - MEMORY) * means, own)

    def factors(self, skipped: Iterable[int] = ()) -> Tensor:
        """Shares [K, m] of a step that leaves out the sub-models ``skipped``; rows sum to 1.

        While no other sub-model knows a class, the full model's share is 1. Every step trains the full model.
        """
        known = (self.probabilities - 1.0 / len(self.probabilities)).clamp_min(0)
        for index in skipped:
            known[:, index].zero_()
        best = known.amax(dim=1, keepdim=True)
        known = (known / best.where(best > 0, 1.0)).pow(self.power)  # the best has 1: no underflow with large powers
        total = known.sum(dim=1, keepdim=True)
        full = torch.zeros_like(known)
        full[:, -1].fill_(1.0)
        return torch.where(total > 0, known / total.where(total > 0, 1.0), full)


def _sums_by_class(labels: Tensor, values: Tensor, classes: int) -> Tensor:
    """Sums of values [2, N] over the images of each class, [2, K].

    On a GPU, ``index_add_`` adds in an order that changes from run to run; a sum over a mask does not.
    """
    if values.device.type != "cpu":
        return _sums_over_mask(labels, values, classes)
    return values.new_zeros(2, classes).index_add_(1, labels, values)


def _sums_over_mask(labels: Tensor, values: Tensor, classes: int) -> Tensor:
    own = labels[:, None] == torch.arange(classes, device=labels.device)
    return torch.where(own, values[:, :, None], 0.0).sum(dim=1)
