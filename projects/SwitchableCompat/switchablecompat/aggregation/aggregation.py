"""What the training loop talks to: collect each sub-model's gradient, then aggregate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError
from ..modeling.ownership import SharedParameter
from . import gram
from .aggregators import Aggregator
from .gradient_bank import GradientBank

GRANULARITIES = ("global", "layer", "tensor", "filter")


class GradientAggregation:
    """Aggregates the sub-models' gradients on shared parameters; private parameters keep their own gradient.

    Args:
        shared: Shared parameters of the model, on their final device.
        names: Names of the sub-models, in order of width.
        aggregator: Function of the Gram matrices.
        granularity: One Gram matrix for the whole network (``global``), for each ``layer``, for each ``tensor``, or for
            each ``filter`` (output channel) of each tensor.
        summed: Names of shared parameters that are summed plainly, whatever the aggregator (the classifier, say).
        seed: Seed of the aggregator's random orders; with the iteration it determines them on every rank.
    """

    def __init__(
        self,
        shared: Sequence[SharedParameter],
        names: Sequence[str],
        aggregator: Aggregator,
        *,
        granularity: str,
        summed: Sequence[str] = (),
        seed: int = 0,
    ) -> None:
        if granularity not in GRANULARITIES:
            raise ValueError(f"granularity must be one of {GRANULARITIES}, found {granularity!r}")
        group_of = {
            "global": lambda name: "all",
            "layer": lambda name: name.rpartition(".")[0],
            "tensor": lambda name: name,
            "filter": lambda name: name,
        }[granularity]
        plain = "(summed)"
        groups = [plain if p.name in summed else group_of(p.name) for p in shared]
        self.names = tuple(names)
        self.aggregator = aggregator
        by_filter = {group for group in groups if group != plain} if granularity == "filter" else ()
        self.bank = GradientBank(shared, len(names), groups, by_filter)
        device = shared[0].parameter.device
        self._aggregated = torch.tensor([name != plain for name in self.bank.group_names], device=device)
        self._seed = seed

    def collect(self, index: int) -> None:
        """Take over sub-model ``index``'s gradients from ``.grad``."""
        self.bank.collect(index)

    def skip(self, index: int) -> None:
        """Sub-model ``index`` takes no part in this step."""
        self.bank.rows[index].zero_()

    def state_dict(self) -> dict[str, Any]:
        """State of the aggregator, and what it belongs to, for checkpoints."""
        return {"of": self._identity(), "state": self.aggregator.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from :meth:`state_dict`.

        Raises:
            InputError: The state is another aggregator's, or of other groups.
        """
        if state["state"] and state["of"] != self._identity():
            rule = f"must be as in the run that is continued ({state['of']})"
            raise InputError("SOLVER.AGGREGATION", rule, self._identity())
        if state["of"] == self._identity():
            self.aggregator.load_state_dict(state["state"])

    def _identity(self) -> str:
        return f"{type(self.aggregator).__name__}, {len(self.bank.group_names)} groups"

    @torch.no_grad()
    def aggregate(self, iteration: int) -> dict[str, Tensor]:
        """Write the aggregate into ``.grad``.

        Returns:
            Scalars on the parameters' device: ``grad_norm_<sub-model>`` and ``grad_cosine_<a>_<b>`` over all shared
            parameters, and ``conflict_rate``, the share of a group's pairs (of gradients that are not zero) with a
            negative inner product.
        """
        shell_grams = self.bank.shell_grams()
        generator = torch.Generator().manual_seed((self._seed * 1_000_003 + iteration) % 2**63)
        weights = self.aggregator(shell_grams, generator)
        weights = torch.where(self._aggregated.view(-1, 1, 1), weights, 1.0)
        self.bank.write(weights)

        grams = shell_grams.sum(dim=1)
        total = grams.sum(dim=0)
        cosines = gram.cosines(total)
        scalars = {f"grad_norm_{name}": total[i, i].sqrt() for i, name in enumerate(self.names)}
        for i, first in enumerate(self.names):
            for j in range(i + 1, len(self.names)):
                scalars[f"grad_cosine_{first}_{self.names[j]}"] = cosines[i, j]
        if self._aggregated.any():
            scalars["conflict_rate"] = gram.conflict_rate(grams[self._aggregated])
        return scalars
