"""Converters for FastReID's ResNeSt: split attention keeps all splits and slices each of them."""

from fastreid.layers import SplAtConv2d
from fastreid.modeling.backbones.resnest import Bottleneck, ResNeSt

from ..layers import ChannelLayout
from .convert import Conversion, Converted, register_converter


@register_converter(SplAtConv2d)
def _convert_split_attention(module: SplAtConv2d, ctx: Conversion, x: ChannelLayout) -> Converted:
    """The convolution has one group per split. ``x`` and the tensor that attention weighs have one segment per split.

    FastReID's forward splits tensors into ``radix`` equal parts; the kept channels form equal parts at every width.
    """
    if module.cardinality != 1:
        raise ctx.refuse(module, "only cardinality 1 has a converter", module.cardinality)
    splits = ctx.in_order(module, x, "conv", "bn0")
    summed = splits.parts[0]
    hidden = ctx.in_order(module, summed, "fc1", "bn1")
    module.fc2, _ = ctx.conv(module.fc2, hidden, out=splits)
    return module, summed


@register_converter(Bottleneck)
def _convert_block(block: Bottleneck, ctx: Conversion, x: ChannelLayout) -> Converted:
    if block.radix < 1:
        raise ctx.refuse(block, "only split attention has a converter", f"radix {block.radix}")
    splits = ctx.rule.parts(block.conv1.out_channels, block.radix)
    block.conv1, out = ctx.conv(block.conv1, x, out=splits)
    out = ctx.in_order(block, out, "bn1", "conv2", "conv3", "bn3")
    residual = x if block.downsample is None else ctx.in_order(block, x, "downsample")
    ctx.require_same(block, out, residual)
    return block, out


@register_converter(ResNeSt)
def _convert_resnest(network: ResNeSt, ctx: Conversion, x: ChannelLayout) -> Converted:
    return network, ctx.in_order(network, x, "conv1", "bn1", "layer1", "layer2", "layer3", "layer4")
