"""Flat storage for the sub-models' gradients on their shared parameters: at most m flat gradients, no graph."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import accumulate
from typing import NamedTuple

import torch
from torch import Tensor

from ..modeling.ownership import SharedParameter

_CHUNK = {"cpu": 1 << 16, "cuda": 1 << 23}  # columns treated at a time: in a core's cache, or few kernels


class _Chunk(NamedTuple):
    """Consecutive columns of one shell; ``lengths`` of their pieces of the segments from ``segment`` on."""

    columns: slice
    shell: int
    segment: int
    lengths: Tensor


class GradientBank:
    """Takes ``.grad`` of one sub-model after the other, gives Gram matrices, writes the aggregate back to ``.grad``.

    Columns are sorted by shell, then by group. Sub-models are nested, so what one owns are the leading columns: its row
    holds no zeros for what it lacks, and every (shell, group) is one segment of consecutive columns.

    Attributes:
        group_names: Group of each Gram matrix.
        rows: The flat gradient of each sub-model, [elements that it owns].

    Args:
        shared: The shared parameters, on their final device.
        m: Number of sub-models.
        groups: Group of each parameter, in any order; Gram matrices are made for each group on its own.
        by_filter: Groups of one parameter that are split further, by its first axis (output channel).
    """

    def __init__(
        self, shared: Sequence[SharedParameter], m: int, groups: Sequence[str], by_filter: Collection[str] = ()
    ) -> None:
        filters = dict.fromkeys(groups, 1)
        for p, group in zip(shared, groups, strict=True):
            if group in by_filter:
                filters[group] = p.parameter.shape[0] if p.parameter.dim() else 1
        self.group_names = [name for name, count in filters.items() for _ in range(count)]
        first = dict(zip(filters, accumulate(filters.values(), initial=0), strict=False))
        self.parameters = [p.parameter for p in shared]
        self._sizes = [p.numel() for p in self.parameters]

        segment_of = []
        for p, group in zip(shared, groups, strict=True):
            index = torch.full(p.parameter.shape, first[group], dtype=torch.int32)
            if group in by_filter and p.parameter.dim():
                index += torch.arange(len(index), dtype=torch.int32).view(-1, *[1] * (index.dim() - 1))
            if p.shells is not None:
                index += p.shells.int() * len(self.group_names)
            segment_of.append(index.flatten())
        segments = torch.cat(segment_of)
        counts = torch.bincount(segments, minlength=len(self.group_names) * m).view(m, -1)
        owned = counts.sum(dim=1).cumsum(dim=0).tolist()
        like = self.parameters[0]
        self.rows = [like.new_zeros(size) for size in owned]
        # int32: as large as one gradient, not two
        order = torch.argsort(segments, stable=True).to(torch.int32 if len(segments) < 2**31 else torch.int64)
        self._order = order.to(like.device)
        self._chunks = list(_chunks(counts, _CHUNK.get(like.device.type, _CHUNK["cuda"]), like.device))
        # Kept from step to step: memory that is new to a process costs as much as the sums.
        self._collected, self._aggregate = torch.empty_like(self.rows[-1]), torch.empty_like(self.rows[-1])
        self._reached = [False] * len(self._sizes)  # by any sub-model since the last write

    def collect(self, index: int) -> None:
        """Move the gradients of sub-model ``index`` from ``.grad`` into the bank; a missing one counts as zero."""
        self._reached = [was or p.grad is not None for was, p in zip(self._reached, self.parameters, strict=True)]
        pieces = [(torch.zeros_like(p) if p.grad is None else p.grad).reshape(-1) for p in self.parameters]
        row = self.rows[index]
        torch.index_select(torch.cat(pieces, out=self._collected), 0, self._order[: len(row)], out=row)
        for parameter in self.parameters:
            parameter.grad = None

    def shell_grams(self) -> Tensor:
        """Inner products of the sub-models' gradients in each group and shell, float64 [groups, m shells, m, m]."""
        m = len(self.rows)
        device = self.rows[0].device
        grams = torch.zeros(m, m, m * len(self.group_names), dtype=torch.float64, device=device)
        for columns, shell, segment, lengths in self._chunks:
            rows = [self.rows[i][columns].double() for i in range(shell, m)]
            for i, first in enumerate(rows, start=shell):
                for j, second in enumerate(rows[i - shell :], start=i):
                    sums = torch.segment_reduce(first * second, "sum", lengths=lengths, unsafe=True)
                    grams[i, j, segment : segment + len(lengths)] += sums
        grams = grams.view(m, m, m, -1).permute(3, 2, 0, 1)
        return grams + grams.triu(1).mT

    def write(self, weights: Tensor) -> None:
        """Set ``.grad`` of every shared parameter to the weighted sum of the collected gradients, until the next write.

        A parameter that no sub-model reached (a frozen one) keeps none: with a zero, weight decay would move it.

        Args:
            weights: [groups, m shells, m].
        """
        m = len(self.rows)
        weights = weights.permute(2, 1, 0).reshape(m, -1).to(self.rows[0].dtype)
        flat = self._aggregate
        for columns, shell, segment, lengths in self._chunks:
            total = torch.zeros_like(flat[columns])
            for i in range(shell, m):
                weight = weights[i, segment : segment + len(lengths)]
                total.addcmul_(self.rows[i][columns], weight.repeat_interleave(lengths, output_size=len(total)))
            flat.index_copy_(0, self._order[columns].long(), total)
        for parameter, piece, reached in zip(self.parameters, flat.split(self._sizes), self._reached, strict=True):
            parameter.grad = piece.view_as(parameter) if reached else None
        self._reached = [False] * len(self._reached)


def _chunks(counts: Tensor, size: int, device: torch.device):
    """Cut the columns into chunks of at most ``size``, none of which spans two shells.

    Args:
        counts: [m, groups], columns of each segment.
        size: Columns of a chunk.
        device: Where the lengths are to be.
    """
    groups = counts.shape[1]
    bounds = torch.cat((counts.new_zeros(1), counts.flatten().cumsum(0)))
    for shell in range(len(counts)):
        own = bounds[shell * groups : (shell + 1) * groups + 1]
        for start in range(int(own[0]), int(own[-1]), size):
            stop = min(start + size, int(own[-1]))
            # the segments that columns start ... stop - 1 lie in
            first, last = (int(torch.searchsorted(own, x, right=True)) - 1 for x in (start, stop - 1))
            lengths = own[first : last + 2].clamp(start, stop).diff().to(device)
            yield _Chunk(slice(start, stop), shell, shell * groups + first, lengths)
