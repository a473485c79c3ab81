"""Flat storage for the sub-models' gradients on their shared parameters: at most m flat gradients, no graph."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import accumulate, combinations_with_replacement

import torch
from torch import Tensor

from ..modeling.ownership import SharedParameter

_CHUNK = 1 << 20  # columns turned to float64 at a time


class GradientBank:
    """Takes ``.grad`` of one sub-model after the other, gives Gram matrices, writes the aggregate back to ``.grad``.

    Columns are sorted by group, and by shell if wanted, so that every (group, shell) is one contiguous segment.

    Args:
        shared: The shared parameters, on their final device.
        m: Number of sub-models.
        groups: Group of each parameter, in any order; Gram matrices are made for each group on its own.
        split_shells: Also split each group by which sub-model is the smallest owner of an element.
        by_filter: Groups of one parameter that are split further, by its first axis (output channel).
    """

    def __init__(
        self,
        shared: Sequence[SharedParameter],
        m: int,
        groups: Sequence[str],
        split_shells: bool,
        by_filter: Collection[str] = (),
    ) -> None:
        filters = dict.fromkeys(groups, 1)
        for p, group in zip(shared, groups, strict=True):
            if group in by_filter:
                filters[group] = p.parameter.shape[0] if p.parameter.dim() else 1
        self.group_names = [name for name, count in filters.items() for _ in range(count)]
        first = dict(zip(filters, accumulate(filters.values(), initial=0), strict=False))
        in_order = sorted(range(len(shared)), key=lambda p: first[groups[p]])
        self.parameters = [shared[p].parameter for p in in_order]
        sizes = [p.numel() for p in self.parameters]
        self.shells = m if split_shells else 1

        segment_of = []
        for p in in_order:
            shape, shells = shared[p].parameter.shape, shared[p].shells
            group = torch.full(shape, first[groups[p]])
            if groups[p] in by_filter and shape:
                group += torch.arange(shape[0]).view(-1, *[1] * (len(shape) - 1))
            segment_of.append((group * self.shells + (0 if shells is None or not split_shells else shells)).flatten())
        ids = torch.cat(segment_of)
        counts = torch.bincount(ids, minlength=len(self.group_names) * self.shells)
        self._bounds = torch.cat((torch.zeros(1, dtype=torch.int64), counts.cumsum(0))).tolist()

        device, dtype = self.parameters[0].device, self.parameters[0].dtype
        self._permutation: Tensor | None = None
        if split_shells or by_filter:
            self._permutation = torch.argsort(ids, stable=True).to(device)
        # Many short segments are reduced all at once, few long ones by a matrix product each.
        self._lengths = counts.to(device) if by_filter else None
        self._sizes = sizes
        self._reached = [False] * len(sizes)  # by any sub-model since the last write
        self.rows = torch.zeros(m, sum(sizes), dtype=dtype, device=device)

    def collect(self, index: int) -> None:
        """Move the gradients of sub-model ``index`` from ``.grad`` into the bank; a missing one counts as zero."""
        self._reached = [was or p.grad is not None for was, p in zip(self._reached, self.parameters, strict=True)]
        pieces = [(torch.zeros_like(p) if p.grad is None else p.grad).reshape(-1) for p in self.parameters]
        if self._permutation is None:
            torch.cat(pieces, out=self.rows[index])
        else:
            torch.index_select(torch.cat(pieces), 0, self._permutation, out=self.rows[index])
        for parameter in self.parameters:
            parameter.grad = None

    def shell_grams(self) -> Tensor:
        """Inner products of the sub-models' gradients in each group and shell, float64 [groups, shells, m, m]."""
        m = self.rows.shape[0]
        grams = torch.zeros(len(self._bounds) - 1, m, m, dtype=torch.float64, device=self.rows.device)
        if self._lengths is not None:
            for i, j in combinations_with_replacement(range(m), 2):
                products = self.rows[i].double().mul_(self.rows[j])
                grams[:, i, j] = torch.segment_reduce(products, "sum", lengths=self._lengths, unsafe=True)
            return (grams + grams.triu(1).mT).view(-1, self.shells, m, m)
        for segment, (start, end) in enumerate(zip(self._bounds, self._bounds[1:], strict=False)):
            for chunk in range(start, end, _CHUNK):
                block = self.rows[:, chunk : min(chunk + _CHUNK, end)].double()
                grams[segment] += block @ block.T
        return grams.view(-1, self.shells, m, m)

    def write(self, weights: Tensor) -> None:
        """Set ``.grad`` of every shared parameter to the weighted sum of the collected gradients.

        A parameter that no sub-model reached (a frozen one) keeps none: with a zero, weight decay would move it.

        Args:
            weights: [groups, shells, m].
        """
        flat = torch.zeros_like(self.rows[0])
        weights = weights.to(flat.dtype).flatten(0, 1)
        if self._lengths is not None:
            for row, weight in zip(self.rows, weights.unbind(dim=1), strict=True):
                flat.addcmul_(row, weight.repeat_interleave(self._lengths, output_size=flat.numel()))
        else:
            for segment, (start, end) in enumerate(zip(self._bounds, self._bounds[1:], strict=False)):
                if end > start:
                    torch.mv(self.rows[:, start:end].T, weights[segment], out=flat[start:end])
        if self._permutation is not None:
            flat = torch.empty_like(flat).index_copy_(0, self._permutation, flat)
        for parameter, piece, reached in zip(self.parameters, flat.split(self._sizes), self._reached, strict=True):
            parameter.grad = piece.view_as(parameter) if reached else None
        self._reached = [False] * len(self._reached)
