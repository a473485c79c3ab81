"""Converters for FastReID's ShuffleNetV2: every width uses the full model's channel shuffle.

A block's shuffle passes on the even channels and convolves the odd ones. If a narrow sub-model counted its own
channels, other channels would be even, and the width would determine which weights see which channel. A sub-model
therefore passes on those of its channels that are even *in the full model*.
"""

import torch
from fastreid.modeling.backbones.shufflenet import ShuffleNetV2, ShuffleV2Block
from torch import Tensor, nn

from ..layers import ChannelLayout, WidthSwitch
from ..layers.slimmable import adopt
from .convert import Conversion, Converted, register_converter


class ChannelShuffle(nn.Module):
    """Splits the channels into those that a block passes on and those that it convolves, by ascending positions."""

    order: Tensor

    def __init__(self, passed: list[int], convolved: list[int]) -> None:
        super().__init__()
        self.passed = len(passed)
        self.register_buffer("order", torch.tensor(passed + convolved), persistent=False)

    @property
    def is_plain(self) -> bool:
        """Whether the shuffle is FastReID's own: even and odd channels, of a number that FastReID accepts."""
        channels = torch.arange(len(self.order), device=self.order.device)
        return len(channels) % 4 == 0 and torch.equal(self.order, torch.cat((channels[::2], channels[1::2])))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        passed, convolved = x.index_select(1, self.order).tensor_split([self.passed], 1)
        return passed, convolved


class ShuffledV2Block(ShuffleV2Block):
    """An extracted block of stride 1 with the shuffle of a narrow sub-model."""

    shuffle: ChannelShuffle

    def channel_shuffle(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.shuffle(x)


class SlimmableShuffleV2Block(ShuffleV2Block):
    """A block of stride 1 with the shuffles of all widths. Its two branches are themselves switchable."""

    switch: WidthSwitch
    shuffles: nn.ModuleList

    def channel_shuffle(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.shuffles[self.switch.index](x)

    def shell(self, index: int) -> ShuffleV2Block:
        """A block with sub-model ``index``'s shuffle. The caller must still make its branches static."""
        shuffle = self.shuffles[index]
        if shuffle.is_plain:
            return adopt(ShuffleV2Block, self, "switch", "shuffles")
        return adopt(ShuffledV2Block, self, "switch", "shuffles", shuffle=shuffle)


@register_converter(ShuffleV2Block)
def _convert_block(block: ShuffleV2Block, ctx: Conversion, x: ChannelLayout) -> Converted:
    if block.stride == 2:
        return block, ChannelLayout.concatenate(*(ctx.in_order(block, x, f"branch_{b}") for b in ("proj", "main")))
    if isinstance(block, ShuffledV2Block):  # a narrow sub-model becomes an independent network
        order = block.shuffle.order.tolist()
        passed, convolved = order[: block.shuffle.passed], order[block.shuffle.passed :]
        del block.shuffle
    else:
        passed, convolved = list(range(0, x.total, 2)), list(range(1, x.total, 2))
    shuffles = nn.ModuleList(
        ChannelShuffle(x.positions(passed, index), x.positions(convolved, index)) for index in range(len(ctx.switch))
    )
    new = adopt(SlimmableShuffleV2Block, block, switch=ctx.switch, shuffles=shuffles)
    out = ctx.in_order(new, x.select(convolved), "branch_main")
    return new, ChannelLayout.concatenate(x.select(passed), out)


@register_converter(ShuffleNetV2)
def _convert_shufflenet(network: ShuffleNetV2, ctx: Conversion, x: ChannelLayout) -> Converted:
    return network, ctx.in_order(network, x, "first_conv", "maxpool", "features", "conv_last")
