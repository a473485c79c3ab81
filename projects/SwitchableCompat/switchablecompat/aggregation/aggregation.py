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
from .groups import groups_of


class GradientAggregation:
    """Aggregates the sub-models' gradients on shared parameters; private parameters keep their own gradient.

    Args:
        shared: Shared parameters of the model, on their final device.
        names: Names of the sub-models, in order of width.
        aggregator: Function of the Gram matrices.
        granularity: What has a Gram matrix of its own, see :func:`.groups.groups_of`.
        exceptions: Another granularity for some parameters, by name.
        class_vectors: Name of the classifier, on which sub-models may count by class.
        full_classifier: Whether the full model alone trains it.
        mean: What is divided by the number of sub-models that train it: ``none``, ``classifier`` or ``all``. Class
            factors are shares already, and class vectors that have them are not divided.
        seed: Seed of the aggregator's random orders; with the iteration it determines them on every rank.
    """

    def __init__(
        self,
        shared: Sequence[SharedParameter],
        names: Sequence[str],
        aggregator: Aggregator,
        *,
        granularity: str,
        exceptions: dict[str, str] | None = None,
        class_vectors: str = "",
        full_classifier: bool = False,
        mean: str = "none",
        seed: int = 0,
    ) -> None:
        groups = groups_of(shared, granularity, exceptions)
        self.names = tuple(names)
        self.aggregator = aggregator
        self.bank = GradientBank(shared, len(names), [g.name for g in groups], {g.name for g in groups if g.by_filter})
        device = shared[0].parameter.device
        summed = {group.name for group in groups if not group.compared}
        compared = torch.tensor([name not in summed for name in self.bank.group_names])
        # Where a pair has one number in common, what conflicts is all that they have: projection would erase it.
        compared &= self.bank.common_elements > 1
        self._aggregated = compared.to(device)
        self._compared = compared.nonzero().squeeze(1).to(device)  # indices, not a mask: a step must not wait for a GPU
        of_name = {p.name: group.name for p, group in zip(shared, groups, strict=True)}
        own = self.bank.groups_named(of_name[class_vectors]) if class_vectors in of_name else []
        self._class_groups = torch.tensor(own, dtype=torch.int64, device=device)
        self._averaged = torch.full_like(self._aggregated, mean == "all")
        self._averaged[self._class_groups] = mean != "none" and not full_classifier
        self._factors = torch.ones(len(names), dtype=torch.float64, device=device)
        self._seed = seed

    def collect(self, index: int, factor: float | Tensor = 1.0) -> None:
        """Take over sub-model ``index``'s gradients from ``.grad``.

        Args:
            index: Which sub-model.
            factor: How much its loss counts, that is what it was multiplied by before it was differentiated.
        """
        self.bank.collect(index)
        self._factors[index] = factor

    def skip(self, index: int) -> None:
        """Sub-model ``index`` takes no part in this step."""
        self.bank.rows[index].zero_()
        self._factors[index] = 0.0

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
    def aggregate(self, iteration: int, class_factors: Tensor | None = None) -> dict[str, Tensor]:
        """Write the aggregate into ``.grad``.

        Args:
            iteration: Of the training, from 0.
            class_factors: [K, m], how much each sub-model counts on each class vector, on top of its loss's factor. By
                default all count alike. Where class vectors are not compared class by class, their mean counts.

        Returns:
            Scalars on the parameters' device: ``grad_norm_<sub-model>`` and ``grad_cosine_<a>_<b>`` over all shared
            parameters, and ``conflict_rate``, the share of a group's pairs (of gradients that are not zero) with a
            negative inner product.
        """
        shell_grams = self.bank.shell_grams()
        generator = torch.Generator().manual_seed((self._seed * 1_000_003 + iteration) % 2**63)
        own = self._own_factors(class_factors)
        if own is None:
            weights = self.aggregator(shell_grams, generator, self._factors)
            weights = torch.where(self._aggregated.view(-1, 1, 1), weights, 1.0)
        else:
            scaled = shell_grams * (own.unsqueeze(-1) * own.unsqueeze(-2)).unsqueeze(1)
            weights = self.aggregator(scaled, generator, self._factors * own)
            weights = torch.where(self._aggregated.view(-1, 1, 1), weights, 1.0) * own.unsqueeze(1)
        self.bank.write(weights / self._owners(class_factors))

        grams = shell_grams.sum(dim=1)
        total = grams.sum(dim=0)
        cosines = gram.cosines(total)
        scalars = {f"grad_norm_{name}": total[i, i].sqrt() for i, name in enumerate(self.names)}
        for i, first in enumerate(self.names):
            for j in range(i + 1, len(self.names)):
                scalars[f"grad_cosine_{first}_{self.names[j]}"] = cosines[i, j]
        if len(self._compared):
            scalars["conflict_rate"] = gram.conflict_rate(grams[self._compared])
        return scalars

    def _owners(self, class_factors: Tensor | None) -> Tensor:
        """By how many each group's and shell's gradient is to be divided, [groups, m shells, 1]."""
        averaged = self._averaged.clone()
        if class_factors is not None:
            averaged[self._class_groups] = False
        owners = (self._factors > 0).double().flip(0).cumsum(0).flip(0).clamp_min(1)  # the sub-models from a shell on
        return torch.where(averaged.view(-1, 1, 1), owners.view(1, -1, 1), 1.0)

    def _own_factors(self, class_factors: Tensor | None) -> Tensor | None:
        """Factors of each group beside those of the losses, [groups, m]; None if all are 1."""
        if class_factors is None:
            return None
        own = self._factors.new_ones(len(self.bank.group_names), len(self.names))
        by_class = len(self._class_groups) == len(class_factors)
        own[self._class_groups] = (class_factors if by_class else class_factors.mean(dim=0)).to(own)
        return own
