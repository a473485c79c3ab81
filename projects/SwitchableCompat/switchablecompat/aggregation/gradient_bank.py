"""Flat storage for the sub-models' gradients on shared parameters: at most m flat gradients, without a graph."""

from collections.abc import Collection, Sequence
from itertools import accumulate

import torch
from torch import Tensor

from ..layers import SharedParameter
from .segment_sums import segment_sums


class GradientBank:
    """Collects ``.grad`` of each sub-model, computes Gram matrices, and writes the aggregate back to ``.grad``.

    Columns are sorted by shell, then by segment. A segment contains the elements of one group in one shell. Sub-models
    are nested, so each owns leading columns, and its row needs no zeros for elements that it lacks. Segments of a shell
    are sorted by length.

    Elements are numbered in the parameter's memory order (that of channels-last weights differs from that of their
    indices), so gradients are moved without another copy, and those that are written have the parameter's strides, as
    fused optimisers demand.

    Attributes:
        group_names: Name of the group of each Gram matrix.
        common_elements: For each group, the number of its elements in the smallest sub-model that owns any, int64
            [groups], on the CPU.
        rows: Flat gradient of each sub-model, [number of its elements].

    Args:
        shared: The shared parameters, on their final device.
        m: Number of sub-models.
        groups: Group of each parameter, in any order. Each group has its own Gram matrices.
        by_filter: Groups that are split by the first axis (output channel), which all their parameters share.
    """

    def __init__(
        self, shared: Sequence[SharedParameter], m: int, groups: Sequence[str], by_filter: Collection[str] = ()
    ) -> None:
        filters = dict.fromkeys(groups, 1)
        filters |= {g: p.parameter.shape[0] for p, g in zip(shared, groups, strict=True) if g in by_filter}
        self.group_names = [name for name, count in filters.items() for _ in range(count)]
        first = dict(zip(filters, accumulate(filters.values(), initial=0), strict=False))
        self.parameters = [p.parameter for p in shared]
        self._sizes = [p.numel() for p in self.parameters]

        groups_of = []
        for p, group in zip(shared, groups, strict=True):
            index = torch.full_like(p.parameter, first[group], dtype=torch.int32, device="cpu")
            if group in by_filter:
                index += torch.arange(len(index), dtype=torch.int32).view(-1, *[1] * (index.dim() - 1))
            if p.shells is not None:
                index += p.shells.int() * len(self.group_names)
            groups_of.append(_in_memory_order(index, p.parameter))
        shell_groups = torch.cat(groups_of)  # shell * groups + group
        lengths = torch.bincount(shell_groups, minlength=len(self.group_names) * m).view(m, -1)
        owned_of_group = lengths.cumsum(dim=0)
        first_owner = (owned_of_group > 0).int().argmax(dim=0, keepdim=True)
        self.common_elements = owned_of_group.gather(0, first_owner).squeeze(0)
        by_length, order = lengths.sort(dim=1, stable=True)
        order += torch.arange(m)[:, None] * lengths.shape[1]
        segment_of = _inverse(order.flatten())
        like = self.parameters[0]
        self.rows = [like.new_zeros(size) for size in lengths.sum(dim=1).cumsum(dim=0).tolist()]
        self._segment_of, self._shell_group_of = segment_of.to(like.device), order.flatten().to(like.device)
        small = torch.int32 if len(shell_groups) < 2**31 else torch.int64  # saves the memory of a second gradient
        element = torch.argsort(segment_of[shell_groups], stable=True)
        self._element_of = element.to(like.device, small)  # source of each column ...
        self._column_of = _inverse(element).to(like.device, small)  # ... and its inverse: a scatter is slower
        # Buffers are kept between steps: allocating new memory costs as much as the sums.
        self._scratch, self._aggregate = torch.empty_like(self.rows[-1]), torch.empty_like(self.rows[-1])
        self._sums = segment_sums(by_length, self.rows, self._scratch)
        self._reached = [False] * len(self._sizes)  # by any sub-model since the last write

    def collect(self, index: int) -> None:
        """Move the gradients of sub-model ``index`` from ``.grad`` into the bank. A missing gradient is zero."""
        self._reached = [was or p.grad is not None for was, p in zip(self._reached, self.parameters, strict=True)]
        pieces = [_in_memory_order(torch.zeros_like(p) if p.grad is None else p.grad, p) for p in self.parameters]
        row = self.rows[index]
        torch.index_select(torch.cat(pieces, out=self._scratch), 0, self._element_of[: len(row)], out=row)
        for parameter in self.parameters:
            parameter.grad = None

    def shell_grams(self) -> Tensor:
        """Inner products of the sub-models' gradients in each group and shell, float64 [groups, m shells, m, m]."""
        m = len(self.rows)
        return self._sums.products()[self._segment_of].view(m, -1, m, m).transpose(0, 1)

    def write(self, weights: Tensor) -> None:
        """Set ``.grad`` of every shared parameter to the sum of the gradients by weights [groups, m shells, m].

        A parameter without any gradient since the last write (a frozen one) keeps None: weight decay would change it if
        it were zero.
        """
        m = len(self.rows)
        weights = weights.permute(2, 1, 0).reshape(m, -1)[:, self._shell_group_of].to(self.rows[0].dtype)
        self._sums.combine(weights)
        flat = torch.index_select(self._scratch, 0, self._column_of, out=self._aggregate)
        for parameter, piece, reached in zip(self.parameters, flat.split(self._sizes), self._reached, strict=True):
            parameter.grad = piece.as_strided(parameter.size(), parameter.stride()) if reached else None
        self._reached = [False] * len(self._reached)


def _in_memory_order(values: Tensor, parameter: Tensor) -> Tensor:
    """Elements of a tensor in the order that those of a dense parameter of its shape have in memory, [numel]."""
    if any(size > 1 and values.stride(i) != parameter.stride(i) for i, size in enumerate(parameter.shape)):
        values = torch.empty_like(parameter, dtype=values.dtype, device=values.device).copy_(values)
    return values.as_strided((values.numel(),), (1,))


def _inverse(permutation: Tensor) -> Tensor:
    inverse = torch.empty_like(permutation)
    inverse[permutation] = torch.arange(len(permutation))
    return inverse
