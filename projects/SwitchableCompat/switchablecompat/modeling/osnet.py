"""Converters for FastReID's OSNet: omni-scale blocks of depthwise streams that share one channel gate."""

from fastreid.modeling.backbones.osnet import (
    ChannelGate,
    Conv1x1,
    Conv1x1Linear,
    ConvLayer,
    LightConv3x3,
    OSBlock,
    OSNet,
)
from torch import nn

from ..layers import ChannelLayout
from .convert import Conversion, Converted, register_converter


@register_converter(ConvLayer, Conv1x1, Conv1x1Linear, LightConv3x3, OSNet)
def _convert_chain(module: nn.Module, ctx: Conversion, x: ChannelLayout) -> Converted:
    return module, ctx.in_order(module, x)


@register_converter(ChannelGate)
def _convert_gate(module: ChannelGate, ctx: Conversion, x: ChannelLayout) -> Converted:
    if module.norm1 is not None or module.return_gates:
        raise ctx.refuse(module, "only a gate without normalization, that is applied, has a converter", "another one")
    hidden = ctx.in_order(module, x, "fc1", "relu")
    module.fc2, _ = ctx.conv(module.fc2, hidden, out=x)
    return module, x


@register_converter(OSBlock)
def _convert_block(block: OSBlock, ctx: Conversion, x: ChannelLayout) -> Converted:
    inner = ctx.in_order(block, x, "conv1")
    streams = [ctx.in_order(block, inner, f"conv2{letter}") for letter in "abcd"]
    for stream in streams[1:]:
        ctx.require_same(block, stream, streams[0])
    out = ctx.in_order(block, streams[0], "gate", "conv3")
    residual = x if block.downsample is None else ctx.in_order(block, x, "downsample")
    ctx.require_same(block, out, residual)
    return block, out if block.IN is None else ctx.in_order(block, out, "IN")
