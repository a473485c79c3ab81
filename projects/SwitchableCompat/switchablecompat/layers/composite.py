"""Switchable versions of FastReID's layers whose ``forward`` depends on the number of channels."""

from __future__ import annotations

import torch
from fastreid.layers import IBN
from torch import Tensor

from .channels import ChannelLayout
from .slimmable import adopt
from .width_switch import WidthSwitch


class SlimmableIBN(IBN):
    """IBN (instance norm on the first half of the channels, batch norm on the second) at every width.

    Pan et al., "Two at Once", ECCV 2018. Sub-model ``i`` owns the leading channels of *each half*, so a channel has the
    same kind of normalization at every width. The two norms are themselves switchable layers.
    """

    switch: WidthSwitch
    layout: ChannelLayout

    @classmethod
    def convert(cls, module: IBN, switch: WidthSwitch, layout: ChannelLayout) -> SlimmableIBN:
        """Convert an IBN whose ``IN`` and ``BN`` are already converted; ``layout`` must have two segments."""
        new = adopt(cls, module)
        new.switch, new.layout = switch, layout
        return new

    def forward(self, x: Tensor) -> Tensor:
        """``x`` is [N, C_i, H, W], the kept part of the first half before that of the second; the result has the
        same shape."""
        first, second = torch.split(x, list(self.layout.kept[self.switch.index]), 1)
        return torch.cat((self.IN(first.contiguous()), self.BN(second.contiguous())), 1)

    def shell(self, index: int) -> IBN:
        """A plain IBN of sub-model ``index``'s size. The caller must still make its two norms static."""
        static = adopt(IBN, self)
        for key in ("switch", "layout"):
            del static.__dict__[key]
        static.half = self.layout.kept[index][0]
        return static
