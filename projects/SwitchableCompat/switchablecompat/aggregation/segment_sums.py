"""Sums over segments of the bank's columns: inner products of gradients, and sums of gradients by weights.

A segment contains the elements of one group in one shell. Of shell s, only sub-models s and larger own elements. Shape
shorthand: m sub-models, S segments of all shells together, G in each shell, C columns.
"""

from collections.abc import Iterator, Sequence
from itertools import combinations_with_replacement, groupby
from typing import NamedTuple

import torch
from torch import Tensor

_CHUNK = 1 << 16  # columns of a matrix: few enough for a core's cache
_PIECE = 1 << 12  # columns that a GPU sums at once: enough pieces for all its processors


def segment_sums(lengths: Tensor, rows: Sequence[Tensor], scratch: Tensor) -> "MatrixSums | RaggedSums":
    """The sums that suit the device of the rows.

    Args:
        lengths: Lengths of the segments of each shell, ascending, [m, G], on the CPU.
        rows: Flat gradient of each sub-model: its leading columns.
        scratch: Buffer for the weighted sum, [C].
    """
    return (MatrixSums if scratch.device.type == "cpu" else RaggedSums)(lengths, rows, scratch)


class _Span(NamedTuple):
    """Consecutive columns of a shell: segments of equal length from ``segment`` on, or a part of one segment."""

    columns: slice
    shell: int
    segment: int
    number: int


class _Matrices(NamedTuple):
    """A span and its memory as matrices [number, length]: views that are made once."""

    shell: int
    segments: slice
    rows: list[Tensor]  # gradients of the sub-models that own the shell
    total: Tensor  # in the scratch buffer


class MatrixSums:
    """For a CPU: consecutive segments of equal length form a matrix that stays in a core's cache."""

    def __init__(self, lengths: Tensor, rows: Sequence[Tensor], scratch: Tensor) -> None:
        self._shape = (lengths.numel(), len(rows), len(rows))
        self._chunks = []
        for columns, shell, segment, number in _spans(lengths.tolist(), _CHUNK):
            own = [row[columns].view(number, -1) for row in rows[shell:]]
            segments = slice(segment, segment + number)
            self._chunks.append(_Matrices(shell, segments, own, scratch[columns].view(number, -1)))

    def products(self) -> Tensor:
        """Inner products of all gradients in each segment, float64 [S, m, m]."""
        grams = torch.zeros(self._shape, dtype=torch.float64)
        for shell, segments, rows, _ in self._chunks:
            own, matrices = grams[segments, shell:, shell:], torch.stack(rows, dim=1).double()
            if len(matrices) > 1:
                own.add_(torch.bmm(matrices, matrices.mT))
            else:  # a matrix product of so few rows is slow
                for i, j in combinations_with_replacement(range(len(rows)), 2):
                    value = torch.dot(matrices[0, i], matrices[0, j])
                    for row, column in {(i, j), (j, i)}:
                        own[0, row, column].add_(value)
        return grams

    def combine(self, weights: Tensor) -> None:
        """Write the sum of the gradients by weights [m, S] to the scratch buffer."""
        for shell, segments, (first, *others), total in self._chunks:
            factors = weights[shell:, segments, None].unbind()
            torch.mul(first, factors[0], out=total)
            for row, factor in zip(others, factors[1:], strict=True):
                total.addcmul_(row, factor)


def _spans(lengths: Sequence[Sequence[int]], size: int) -> Iterator[_Span]:
    """Cut the columns into matrices of at most ``size`` elements. Lengths ascend over the segments of each shell."""
    column = segment = 0
    for shell, own in enumerate(lengths):
        for length, run in groupby(own):
            left = len(list(run))
            while left and length:
                count = min(left, max(1, size // length))
                for start in range(0, count * length, size):
                    stop = min(start + size, count * length)
                    yield _Span(slice(column + start, column + stop), shell, segment, count)
                column, segment, left = column + count * length, segment + count, left - count
            segment += left  # skip empty segments


class _Shell(NamedTuple):
    """The columns of a shell, in pieces of segments."""

    first: int  # smallest sub-model that owns it
    segments: slice  # without the empty ones
    rows: list[Tensor]
    total: Tensor  # in the scratch buffer
    pairs: list[tuple[int, int]]  # of rows
    pieces: Tensor  # first column of each piece, and the end
    segments_of_pairs: Tensor  # first piece of each segment, for all pairs one after another, and the end
    segment_of: Tensor  # of each column, int32


class RaggedSums:
    """For a GPU: one reduction per shell and pair, whatever the lengths, because launches limit small kernels."""

    def __init__(self, lengths: Tensor, rows: Sequence[Tensor], scratch: Tensor) -> None:
        self._shape, self._shells, column = (lengths.numel(), len(rows), len(rows)), [], 0
        for first, of_shell in enumerate(lengths):
            own = of_shell[of_shell > 0]  # they come last
            if len(own):
                columns, end = slice(column, column + int(own.sum())), (first + 1) * len(of_shell)
                owners = [row[columns] for row in rows[first:]]
                pairs = list(combinations_with_replacement(range(len(owners)), 2))
                tables = (table.to(scratch.device) for table in _pieces(own, len(pairs)))
                segments = slice(end - len(own), end)
                self._shells.append(_Shell(first, segments, owners, scratch[columns], pairs, *tables))
                column = columns.stop

    def products(self) -> Tensor:
        """Inner products of all gradients in each segment, float64 [S, m, m]."""
        grams = torch.zeros(self._shape, dtype=torch.float64, device=self._shells[0].total.device)
        for shell in self._shells:
            rows = torch.stack(shell.rows).double()
            of_pieces = [_sums(rows[i] * rows[j], shell.pieces) for i, j in shell.pairs]
            values = _sums(torch.cat(of_pieces), shell.segments_of_pairs).view(len(shell.pairs), -1)
            of_pair = dict(zip(shell.pairs, values.unbind(), strict=True))
            numbers = range(len(rows))
            symmetric = torch.stack([of_pair[min(i, j), max(i, j)] for i in numbers for j in numbers], dim=1)
            own = grams[shell.segments, shell.first :, shell.first :]
            own.copy_(symmetric.view_as(own))
        return grams

    def combine(self, weights: Tensor) -> None:
        """Write the sum of the gradients by weights [m, S] to the scratch buffer."""
        for shell in self._shells:
            of_columns = weights[shell.first :, shell.segments].index_select(1, shell.segment_of).unbind()
            torch.mul(shell.rows[0], of_columns[0], out=shell.total)
            for row, factors in zip(shell.rows[1:], of_columns[1:], strict=True):
                shell.total.addcmul_(row, factors)


def _sums(values: Tensor, offsets: Tensor) -> Tensor:
    """Sums between neighbouring offsets. ``unsafe``: the offsets are not checked, for which a GPU would wait."""
    return torch.segment_reduce(values, "sum", offsets=offsets, unsafe=True)


def _pieces(lengths: Tensor, pairs: int) -> tuple[Tensor, Tensor, Tensor]:
    """Cut segments into pieces of at most ``_PIECE`` columns; the three tables of :class:`_Shell`."""
    counts = (lengths + _PIECE - 1) // _PIECE
    first_piece, first_column = counts.cumsum(0) - counts, lengths.cumsum(0) - lengths
    segment = torch.arange(len(lengths)).repeat_interleave(counts)
    number = torch.arange(len(segment)) - first_piece[segment]  # of the piece in its segment
    pieces = torch.cat((first_column[segment] + number * _PIECE, lengths.sum()[None]))
    of_pairs = (first_piece + len(segment) * torch.arange(pairs)[:, None]).flatten()
    end = torch.tensor([pairs * len(segment)])
    columns = torch.arange(len(lengths), dtype=torch.int32).repeat_interleave(lengths)
    return pieces, torch.cat((of_pairs, end)), columns
