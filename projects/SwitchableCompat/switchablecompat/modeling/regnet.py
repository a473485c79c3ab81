"""Converters for FastReID's RegNet and EfficientNet, which share its ``regnet`` folder."""

from fastreid.modeling.backbones.regnet import effnet, regnet
from torch import nn

from ..layers import ChannelLayout
from .convert import Conversion, Converted, convert_channelwise, register_converter
from .resnet import group_size


@register_converter(regnet.SimpleStemIN, regnet.AnyStage, regnet.AnyNet)
@register_converter(effnet.StemIN, effnet.EffStage, effnet.EffHead, effnet.EffNet)
def _convert_chain(module: nn.Module, ctx: Conversion, x: ChannelLayout) -> Converted:
    return module, ctx.in_order(module, x)


register_converter(effnet.Swish)(convert_channelwise)


@register_converter(regnet.SE, effnet.SE)
def _convert_squeeze(module: regnet.SE | effnet.SE, ctx: Conversion, x: ChannelLayout) -> Converted:
    module.f_ex[0], hidden = ctx.conv(module.f_ex[0], x)
    module.f_ex[2], _ = ctx.conv(module.f_ex[2], hidden, out=x)
    return module, x


@register_converter(regnet.BottleneckTransform)
def _convert_transform(module: regnet.BottleneckTransform, ctx: Conversion, x: ChannelLayout) -> Converted:
    inner = ctx.rule.slim(module.a.out_channels, group_size(module.b))
    module.a, x = ctx.conv(module.a, x, out=inner)
    return module, ctx.in_order(module, x, *(name for name in module._modules if name != "a"))


@register_converter(regnet.ResBottleneckBlock)
def _convert_block(block: regnet.ResBottleneckBlock, ctx: Conversion, x: ChannelLayout) -> Converted:
    residual = ctx.in_order(block, x, "proj", "bn") if block.proj_block else x
    out = ctx.in_order(block, x, "f")
    ctx.require_same(block, out, residual)
    return block, out


@register_converter(effnet.MBConv)
def _convert_mbconv(block: effnet.MBConv, ctx: Conversion, x: ChannelLayout) -> Converted:
    out = ctx.in_order(block, x)  # its layers are in the order in which they run
    if block.has_skip:
        ctx.require_same(block, out, x)
    return block, out
