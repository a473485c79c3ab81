"""Layouts: which channels of a tensor axis each sub-model owns.

A sub-model owns the leading channels of every *segment* of an axis. Ordinary axes have one segment. If a network treats
parts of an axis differently, each part is a segment, so that a channel keeps its role at every width. Examples are the
halves of an IBN layer, the splits of ResNeSt, concatenated branches, and query, key and value of an attention layer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import torch
from torch import Tensor


@dataclass(frozen=True)
class ChannelLayout:
    """Channels of one axis, per sub-model.

    Attributes:
        segments: Size of each segment. The sizes add up to the number of channels of the full model.
        kept: ``kept[i][s]`` is the number of leading channels of segment ``s`` that sub-model ``i`` owns. It does not
            decrease with ``i``, because sub-models are nested, and ``kept[-1] == segments``.
    """

    segments: tuple[int, ...]
    kept: tuple[tuple[int, ...], ...]

    def __deepcopy__(self, memo: dict) -> ChannelLayout:
        return self  # layouts are immutable, and a network has one or two per layer

    @property
    def total(self) -> int:
        """Number of channels of the full model."""
        return sum(self.segments)

    @property
    def is_fixed(self) -> bool:
        """Whether every sub-model owns all channels."""
        return all(counts == self.segments for counts in self.kept)

    @property
    def parts(self) -> tuple[ChannelLayout, ...]:
        """One layout per segment."""
        return tuple(
            ChannelLayout((size,), tuple((counts[segment],) for counts in self.kept))
            for segment, size in enumerate(self.segments)
        )

    @classmethod
    def concatenate(cls, *layouts: ChannelLayout) -> ChannelLayout:
        """Layout of tensors that are concatenated along this axis."""
        segments = tuple(chain.from_iterable(layout.segments for layout in layouts))
        kept = zip(*(layout.kept for layout in layouts), strict=True)
        return cls(segments, tuple(tuple(chain.from_iterable(counts)) for counts in kept))

    def select(self, channels: Sequence[int]) -> ChannelLayout:
        """Layout of the given ``channels``, in ascending order (for a channel shuffle, every second one)."""
        segments, kept, start = [], [], 0
        for size, counts in zip(self.segments, zip(*self.kept, strict=True), strict=True):
            if inside := [channel - start for channel in channels if start <= channel < start + size]:
                segments.append(len(inside))
                kept.append([sum(channel < count for channel in inside) for count in counts])
            start += size
        return ChannelLayout(tuple(segments), tuple(zip(*kept, strict=True)))

    def count(self, index: int) -> int:
        """Number of channels that sub-model ``index`` owns."""
        return sum(self.kept[index])

    def take(self, tensor: Tensor, dim: int, index: int) -> Tensor:
        """Part of ``tensor`` along ``dim`` that sub-model ``index`` owns: a view, or a copy if it has several
        pieces."""
        if self.kept[index] == self.segments:
            return tensor
        pieces, start = [], 0
        for size, kept in zip(self.segments, self.kept[index], strict=True):
            pieces.append(tensor.narrow(dim, start, kept))
            start += size
        return pieces[0] if len(pieces) == 1 else torch.cat(pieces, dim)

    def owner(self) -> Tensor:
        """Smallest sub-model that owns each channel, int64 of shape [total]."""
        counts = torch.tensor(self.kept).T  # [segments, sub-models]
        segments = zip(self.segments, counts, strict=True)
        return torch.cat([(torch.arange(size).unsqueeze(1) >= kept).sum(dim=1) for size, kept in segments])

    def positions(self, channels: Sequence[int], index: int) -> list[int]:
        """Positions, among the channels of sub-model ``index``, of those ``channels`` that it owns."""
        owned = self.owner() <= index
        position = owned.cumsum(0) - 1
        return [int(position[channel]) for channel in channels if owned[channel]]


def scaled_channels(channels: int, width: float, divisor: int) -> int:
    """Round ``channels * width`` to a permitted number of channels.

    The result is the nearest multiple of ``divisor``, at least one multiple, and at most 10 % below the exact value
    (the rule of MobileNet's ``make_divisible``). For ``width == 1`` it is ``channels``.
    """
    if width == 1:
        return channels
    target = channels * width
    rounded = max(divisor, int(target + divisor / 2) // divisor * divisor)
    if rounded < 0.9 * target:
        rounded += divisor
    return min(rounded, channels)


@dataclass(frozen=True)
class ChannelRule:
    """Creates the layouts of a network from its widths (ascending, ending in 1.0) and a rounding rule.

    Channel counts are multiples of ``divisor`` (8 suits most hardware, 1 is plain rounding).
    """

    widths: Sequence[float]
    divisor: int

    def slim(self, channels: int, unit: int = 1) -> ChannelLayout:
        """Layout of an ordinary axis: each sub-model owns the leading channels.

        ``unit`` channels stay together, as in a group of a grouped convolution or in an attention head.
        """
        return self.parts(channels, 1, unit)

    def parts(self, channels: int, count: int, unit: int = 1) -> ChannelLayout:
        """Layout of an axis of ``count`` equal parts: each sub-model owns equally many leading channels of each part.

        Parts are, for example, the halves of IBN or the splits of ResNeSt. ``unit`` channels of a part stay together:
        ``channels``, those of the full model, are a multiple of ``count * unit``.
        """
        if channels % (count * unit):
            raise ValueError(f"an axis of {count} parts of units of {unit} cannot have {channels} channels")
        part = channels // count
        divisor = self.divisor if unit == 1 else math.lcm(self.divisor, count * unit)
        totals = [scaled_channels(channels, width, divisor) for width in self.widths]
        return ChannelLayout((part,) * count, tuple((min(part, -(-total // count)),) * count for total in totals))

    def fixed(self, channels: int) -> ChannelLayout:
        """Layout of an axis that is the same at every width (image channels, the embedding)."""
        return ChannelLayout((channels,), tuple((channels,) for _ in self.widths))
