"""FastReID's composite layers whose own forward counts channels."""

from __future__ import annotations

import torch
from fastreid.layers import IBN
from torch import Tensor

from .channels import ChannelLayout
from .slimmable import adopt
from .width_switch import WidthSwitch


class SlimmableIBN(IBN):
    """IBN (instance norm on the first half of the channels, batch norm on the second) at every width.

    Pan et al., "Two at Once", ECCV 2018. Sub-model ``i`` owns the leading channels of *each half*, so a channel
    keeps its kind of normalization at every width. The two norms are switchable layers themselves.
    """

    switch: WidthSwitch
    layout: ChannelLayout

    @classmethod
    def convert(cls, module: IBN, switch: WidthSwitch, layout: ChannelLayout) -> SlimmableIBN:
        """``module.IN`` and ``module.BN`` must have been converted; ``layout`` must have two segments."""
        new = adopt(cls, module)
        new.switch, new.layout = switch, layout
        return new

    def forward(self, x: Tensor) -> Tensor:
        """``x`` is [N, C_i, H, W] with both kept halves one after the other; same shape out."""
        first, second = torch.split(x, list(self.layout.kept[self.switch.index]), 1)
        return torch.cat((self.IN(first.contiguous()), self.BN(second.contiguous())), 1)

    def shell(self, index: int) -> IBN:
        """A plain IBN of sub-model ``index``'s size; its two norms still have to be made static."""
        static = adopt(IBN, self)
        for key in ("switch", "layout"):
            del static.__dict__[key]
        static.half = self.layout.kept[index][0]
        return static
