"""Converters for FastReID's ResNet and ResNeXt: their blocks, with IBN, SE and non-local layers."""

import torch
from fastreid.layers import IBN, Non_local, SELayer
from fastreid.modeling.backbones import resnext
from fastreid.modeling.backbones.resnet import BasicBlock, Bottleneck, ResNet
from torch import Tensor, nn

from ..layers import ChannelLayout, WidthSwitch
from ..layers.slimmable import adopt
from .convert import Conversion, Converted, register_converter


class SlimmableIBN(IBN):
    """IBN (instance norm on the first half of the channels, batch norm on the second) at every width.

    Pan et al., "Two at Once", ECCV 2018. Sub-model ``i`` owns the leading channels of *each half*, so a channel has the
    same kind of normalization at every width. The two norms are themselves switchable layers.
    """

    switch: WidthSwitch
    layout: ChannelLayout  # of two segments

    def forward(self, x: Tensor) -> Tensor:
        """``x`` is [N, C_i, H, W], the kept part of the first half before that of the second, like the result."""
        first, second = torch.split(x, list(self.layout.kept[self.switch.index]), 1)
        return torch.cat((self.IN(first.contiguous()), self.BN(second.contiguous())), 1)

    def shell(self, index: int) -> IBN:
        """A plain IBN of sub-model ``index``'s size. The caller must still make its two norms static."""
        return adopt(IBN, self, "switch", "layout", half=self.layout.kept[index][0])


@register_converter(IBN)
def _convert_ibn(module: IBN, ctx: Conversion, x: ChannelLayout) -> Converted:
    if len(x.segments) != 2:
        raise ctx.refuse(module, "needs an input of two halves", f"segments {x.segments}")
    module.IN, _ = ctx.convert(module.IN, x.parts[0])
    module.BN, _ = ctx.convert(module.BN, x.parts[1])
    return adopt(SlimmableIBN, module, switch=ctx.switch, layout=x), x


@register_converter(SELayer)
def _convert_se(module: SELayer, ctx: Conversion, x: ChannelLayout) -> Converted:
    module.fc[0], hidden = ctx.linear(module.fc[0], x)
    module.fc[2], _ = ctx.linear(module.fc[2], hidden, out=x)
    return module, x


@register_converter(Non_local)
def _convert_non_local(module: Non_local, ctx: Conversion, x: ChannelLayout) -> Converted:
    # Its forward views tensors as [b, inter_channels, -1]. FastReID's inter_channels is 1, the same at every width.
    inner = ctx.rule.fixed(module.inter_channels)
    for name in ("g", "theta", "phi"):
        setattr(module, name, ctx.conv(getattr(module, name), x, out=inner)[0])
    module.W[0], _ = ctx.conv(module.W[0], inner, out=x)
    module.W[1], _ = ctx.convert(module.W[1], x)
    return module, x


@register_converter(BasicBlock, Bottleneck, resnext.Bottleneck)
def _convert_block(block: BasicBlock | Bottleneck | resnext.Bottleneck, ctx: Conversion, x: ChannelLayout) -> Converted:
    out, stages = x, 3 if hasattr(block, "conv3") else 2
    for stage in range(1, stages + 1):
        conv, norm = getattr(block, f"conv{stage}"), getattr(block, f"bn{stage}")
        layout = None
        if conv.groups == 1:
            halves = 2 if isinstance(norm, IBN) else 1
            layout = ctx.rule.parts(conv.out_channels, halves, group_size(getattr(block, f"conv{stage + 1}", None)))
        conv, out = ctx.conv(conv, out, out=layout)
        setattr(block, f"conv{stage}", conv)
        out = ctx.in_order(block, out, f"bn{stage}")
    if hasattr(block, "se"):
        out = ctx.in_order(block, out, "se")
    residual = x if block.downsample is None else ctx.in_order(block, x, "downsample")
    ctx.require_same(block, out, residual)
    return block, out


def group_size(conv: nn.Conv2d | None) -> int:
    """Number of input channels of one group of the following convolution; they must stay together."""
    return conv.in_channels // conv.groups if conv is not None and conv.groups > 1 else 1


@register_converter(ResNet, resnext.ResNeXt)
def _convert_resnet(network: ResNet | resnext.ResNeXt, ctx: Conversion, x: ChannelLayout) -> Converted:
    maxpool = "maxpool" if isinstance(network, ResNet) else "maxpool1"
    x = ctx.in_order(network, x, "conv1", "bn1", "relu", maxpool)
    for stage in range(1, 5):
        x = ctx.in_order(network, x, f"layer{stage}")
        ctx.in_order(getattr(network, f"NL_{stage}", nn.ModuleList()), x)
    return network, x
