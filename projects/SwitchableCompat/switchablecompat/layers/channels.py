"""Which channels of one tensor axis each sub-model owns.

A sub-model owns the leading channels of every *segment* of an axis. Ordinary axes have one segment; the axis between
an IBN layer's two halves has two, so that a channel stays instance-normalised or batch-normalised at every width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class ChannelLayout:
    """Channels of one axis, per sub-model.

    Attributes:
        segments: Size of each segment; they add up to the axis of the full model.
        kept: ``kept[i][s]`` is the number of leading channels of segment ``s`` that sub-model ``i`` owns;
            non-decreasing in ``i`` (sub-models are nested), ``kept[-1] == segments``.
    """

    segments: tuple[int, ...]
    kept: tuple[tuple[int, ...], ...]

    @property
    def total(self) -> int:
        """Channels of the full model."""
        return sum(self.segments)

    @property
    def is_fixed(self) -> bool:
        """Whether every sub-model owns all channels."""
        return all(counts == self.segments for counts in self.kept)

    def count(self, index: int) -> int:
        """Channels of sub-model ``index``."""
        return sum(self.kept[index])

    def take(self, tensor: Tensor, dim: int, index: int) -> Tensor:
        """What sub-model ``index`` owns of ``tensor`` along ``dim``: a view, or a copy if in several pieces."""
        if self.kept[index] == self.segments:
            return tensor
        pieces, start = [], 0
        for size, kept in zip(self.segments, self.kept[index], strict=True):
            pieces.append(tensor.narrow(dim, start, kept))
            start += size
        return pieces[0] if len(pieces) == 1 else torch.cat(pieces, dim)

    def owner(self) -> Tensor:
        """Smallest sub-model that owns each channel, int64 of shape [total]."""
        owners = []
        for segment, size in enumerate(self.segments):
            counts = torch.tensor([counts[segment] for counts in self.kept])
            owners.append((torch.arange(size).unsqueeze(1) >= counts).sum(dim=1))
        return torch.cat(owners)


def scaled_channels(channels: int, width: float, divisor: int) -> int:
    """Number of channels a sub-model keeps of ``channels``.

    ``channels * width`` rounded to the nearest multiple of ``divisor``, at least one multiple, and not more than 10 %
    below the exact value (the rule of MobileNet's ``make_divisible``); exact for ``width == 1``.
    """
    if width == 1:
        return channels
    target = channels * width
    rounded = max(divisor, int(target + divisor / 2) // divisor * divisor)
    if rounded < 0.9 * target:
        rounded += divisor
    return min(rounded, channels)


class ChannelRule:
    """Makes the layouts of a network from its widths and its rounding rule.

    Args:
        widths: Width multipliers, ascending, ending in 1.0.
        divisor: Channel counts are multiples of this (8 suits most hardware; 1 is plain rounding).
    """

    def __init__(self, widths: Sequence[float], divisor: int) -> None:
        self.widths = tuple(widths)
        self.divisor = divisor

    def slim(self, channels: int) -> ChannelLayout:
        """An ordinary axis: each sub-model owns the leading channels."""
        return ChannelLayout((channels,), tuple((scaled_channels(channels, w, self.divisor),) for w in self.widths))

    def halves(self, channels: int) -> ChannelLayout:
        """An axis of two equal halves (IBN): each sub-model owns the leading channels of both, equally many."""
        if channels % 2:
            raise ValueError(f"an axis of two halves needs an even number of channels, found {channels}")
        half = channels // 2
        kept = tuple(min(half, -(-scaled_channels(channels, w, self.divisor) // 2)) for w in self.widths)
        return ChannelLayout((half, half), tuple((count, count) for count in kept))

    def fixed(self, channels: int) -> ChannelLayout:
        """An axis that is the same at every width (image channels, the embedding)."""
        return ChannelLayout((channels,), tuple((channels,) for _ in self.widths))
