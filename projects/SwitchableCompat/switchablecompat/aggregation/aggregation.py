"""Interface to the training loop: it collects each sub-model's gradient and then aggregates them."""

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError
from ..layers import SharedParameter
from . import gram
from .aggregators import Aggregator
from .gradient_bank import GradientBank
from .groups import groups_of


class GradientAggregation:
    """Aggregates the sub-models' gradients on shared parameters. Private parameters keep their own gradient.

    Args:
        shared: Shared parameters of the model, on their final device.
        names: Names of the sub-models, in order of width.
        aggregator: See :class:`.Aggregator`.
        granularity: Parameters with a common Gram matrix, see :func:`.groups.groups_of`.
        exceptions: Different granularity of some parameters, by name.
        class_vectors: Name of the classifier, for which :meth:`aggregate` accepts factors per class.
        mean: Parameters whose gradient is divided by the number of sub-models that train them: ``none``, ``classifier``
            or ``all``. Class vectors with class factors are not divided, because these factors are already shares.
        seed: Seed of the aggregator's random orders. Seed and iteration determine them on every rank.
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
        # If a pair has only one number in common, projection would erase all of it in a conflict.
        compared &= self.bank.common_elements > 1
        self._aggregated = compared.to(device)
        indices = compared.nonzero().squeeze(1)  # not a mask: a step must not wait for a GPU
        self._compared = indices.to(device)
        # such as backbone.layer1 of backbone.layer1.0.conv1.weight
        part_of = [".".join(self.bank.group_names[index].split(".")[:2]) for index in indices.tolist()]
        self._parts = sorted({*part_of})
        self._part = torch.tensor([self._parts.index(part) for part in part_of], dtype=torch.int64, device=device)
        of_name = {p.name: group.name for p, group in zip(shared, groups, strict=True)}
        self._classifier = next((p.parameter for p in shared if p.name == class_vectors), None)
        own = [index for index, name in enumerate(self.bank.group_names) if name == of_name.get(class_vectors)]
        self._class_groups = torch.tensor(own, dtype=torch.int64, device=device)
        self._averaged = None if mean == "none" else torch.full_like(self._aggregated, mean == "all")
        if self._averaged is not None:
            self._averaged[self._class_groups] = True
        self._factors = torch.ones(len(names), dtype=torch.float64, device=device)
        self._train_classes = torch.ones_like(self._factors)  # 0 for sub-models without a gradient on the classifier
        self._seed = seed

    def collect(self, index: int, factor: float | Tensor = 1.0) -> None:
        """Move the gradients of sub-model ``index``, whose loss was multiplied by ``factor``, out of ``.grad``."""
        if self._classifier is not None:
            self._train_classes[index].fill_(self._classifier.grad is not None)
        self.bank.collect(index)
        self._set_factor(index, factor)

    def skip(self, index: int) -> None:
        """Record that sub-model ``index`` takes no part in this step."""
        self.bank.rows[index].zero_()
        self._set_factor(index, 0.0)

    def _set_factor(self, index: int, factor: float | Tensor) -> None:
        own = self._factors[index]  # assigning a number to an element copies it from the CPU, for which a step waits
        own.copy_(factor) if isinstance(factor, Tensor) else own.fill_(factor)

    def state_dict(self) -> dict[str, Any]:
        """State of the aggregator for checkpoints, and which aggregator and groups it belongs to."""
        return {"of": self._identity(), "state": self.aggregator.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from :meth:`state_dict`; InputError if it belongs to another aggregator or to other groups."""
        if state["state"] and state["of"] != self._identity():
            rule = f"must be as in the run that is continued ({state['of']})"
            raise InputError("SOLVER.AGGREGATION", rule, self._identity())
        if state["of"] == self._identity():
            self.aggregator.load_state_dict(state["state"])

    def _identity(self) -> str:
        return f"{self.aggregator}, {len(self.bank.group_names)} groups"

    @torch.no_grad()
    def aggregate(
        self, iteration: int, class_factors: Tensor | None = None, scale: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Write the aggregate into ``.grad``.

        Args:
            iteration: Iteration of the training, from 0.
            class_factors: [K, m], factor of each sub-model on each class vector, in addition to the factor of its loss.
                Default: 1. If class vectors are not compared class by class, their mean is used.
            scale: Factor of the gradient scaler in all gradients, so that what the aggregator remembers is without it.
                The aggregate keeps it. Default: 1.

        Returns:
            Scalars on the parameters' device. ``grad_norm_<sub-model>`` (without the scaler's factor) and
            ``grad_cosine_<a>_<b>`` are over all shared parameters. ``conflict_rate`` is the share of pairs with a
            negative inner product, over all groups and all pairs of gradients that are not zero;
            ``conflict_rate_<part>`` is the same for one part of the network, such as ``backbone.layer1``.
        """
        shell_grams = self.bank.shell_grams()
        if scale is not None:
            shell_grams = shell_grams / scale.to(shell_grams) ** 2
        generator = torch.Generator().manual_seed((self._seed * 1_000_003 + iteration) % 2**63)
        own = self._own_factors(class_factors)
        scaled = shell_grams * (own.unsqueeze(-1) * own.unsqueeze(-2)).unsqueeze(1)
        weights = self.aggregator(scaled, generator, self._factors * own)
        weights = torch.where(self._aggregated.view(-1, 1, 1), weights, 1.0) * own.unsqueeze(1)
        if self._averaged is not None:
            weights = weights / self._owners(self._averaged, class_factors)
        self.bank.write(weights)

        grams = shell_grams.sum(dim=1)
        total = grams.sum(dim=0)
        cosines = gram.cosines(total)
        scalars = {f"grad_norm_{name}": total[i, i].sqrt() for i, name in enumerate(self.names)}
        for (i, first), (j, second) in combinations(enumerate(self.names), 2):
            scalars[f"grad_cosine_{first}_{second}"] = cosines[i, j]
        if len(self._compared):
            counts = gram.conflict_counts(grams[self._compared], self._part, len(self._parts))
            scalars["conflict_rate"] = gram.conflict_rates(counts.sum(dim=1))
            if len(self._parts) > 1:
                rates = gram.conflict_rates(counts)
                scalars |= {f"conflict_rate_{part}": rates[i] for i, part in enumerate(self._parts)}
        return scalars

    def _owners(self, averaged: Tensor, class_factors: Tensor | None) -> Tensor:
        """By how many each group's and shell's gradient is to be divided, [groups, m shells, 1]."""
        if class_factors is not None:
            averaged = averaged.index_fill(0, self._class_groups, False)
        active = (self._factors > 0).double()
        owners = _with_all_wider(active).expand(len(averaged), -1).clone()
        owners[self._class_groups] = _with_all_wider(active * self._train_classes)
        return torch.where(averaged.unsqueeze(-1), owners.clamp_min(1), 1.0).unsqueeze(-1)

    def _own_factors(self, class_factors: Tensor | None) -> Tensor:
        """Factors of each group beside those of the losses, [groups, m], or [1, m] where all are 1."""
        if class_factors is None:
            return torch.ones_like(self._factors).unsqueeze(0)
        own = self._factors.new_ones(len(self.bank.group_names), len(self.names))
        by_class = len(self._class_groups) == len(class_factors)
        own[self._class_groups] = (class_factors if by_class else class_factors.mean(dim=0)).to(own)
        return own


def _with_all_wider(counts: Tensor) -> Tensor:
    """Sum of the counts of each sub-model and all wider ones, which own the same shell, [m]."""
    return counts.flip(0).cumsum(0).flip(0)
