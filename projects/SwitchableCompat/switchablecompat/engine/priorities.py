"""Priorities of the sub-models, which follow their uncertainty."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from fastreid.utils import comm
from torch import Tensor

MEMORY = 0.9  # decay of the running mean of the uncertainties, per step


class UncertaintyPriorities:
    """Factor on the losses of each sub-model: its mean uncertainty to a power, relative to the others.

    With the running means u_i of the uncertainties, the factor is m u_i^gamma / sum_j u_j^gamma over all m sub-models.
    Factors are 1 on average, and all are 1 if all sub-models are equally uncertain. Uncertain sub-models have larger
    factors, which fall as they learn. gamma is ``exponent``; 0: every factor is 1. The state belongs into checkpoints.
    """

    def __init__(self, names: Sequence[str], exponent: float = 0.0) -> None:
        self.names, self.exponent = tuple(names), exponent
        self.uncertainties = torch.ones(len(self.names))  # uncertainties without any evidence

    def state_dict(self) -> dict[str, Any]:
        return {"uncertainties": self.uncertainties}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.uncertainties = state["uncertainties"]

    def factors(self) -> Tensor | None:
        """Factors [m] for the next step; None if all are 1."""
        if not self.exponent:
            return None
        powers = self.uncertainties.clamp_min(torch.finfo(torch.float32).tiny).pow(self.exponent)
        return len(self.names) * powers / powers.sum()

    @torch.no_grad()
    def update(self, diagnostics: Mapping[str, Tensor]) -> None:
        """Update the means with a step's ``uncertainty_<sub-model>``, averaged over the processes.

        Untrained sub-models keep theirs.
        """
        if not self.exponent:
            return
        before = self.uncertainties.to(next(iter(diagnostics.values())).device)
        now = torch.stack(
            [diagnostics.get(f"uncertainty_{name}", old).float() for name, old in zip(self.names, before, strict=True)]
        )
        if comm.get_world_size() > 1:
            torch.distributed.all_reduce(now)
            now /= comm.get_world_size()
        self.uncertainties = torch.where(now.isfinite(), MEMORY * before + (1 - MEMORY) * now, before)
