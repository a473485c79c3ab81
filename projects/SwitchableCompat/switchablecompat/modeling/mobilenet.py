"""Converters for FastReID's MobileNetV2 and MobileNetV3: inverted residuals with depthwise convolutions."""

from fastreid.modeling.backbones import mobilenet, mobilenetv3

from ..layers import ChannelLayout
from .convert import Conversion, Converted, register_converter


@register_converter(mobilenetv3.SqueezeExcitation)
def _convert_squeeze(module: mobilenetv3.SqueezeExcitation, ctx: Conversion, x: ChannelLayout) -> Converted:
    hidden = ctx.in_order(module, x, "fc1")
    module.fc2, _ = ctx.conv(module.fc2, hidden, out=x)
    return module, x


@register_converter(mobilenet.InvertedResidual, mobilenetv3.InvertedResidual)
def _convert_block(
    block: mobilenet.InvertedResidual | mobilenetv3.InvertedResidual, ctx: Conversion, x: ChannelLayout
) -> Converted:
    is_v2 = isinstance(block, mobilenet.InvertedResidual)
    out = ctx.in_order(block, x, "conv" if is_v2 else "block")
    if block.identity if is_v2 else block.use_res_connect:
        ctx.require_same(block, out, x)
    return block, out


@register_converter(mobilenet.MobileNetV2, mobilenetv3.MobileNetV3)
def _convert_mobilenet(
    network: mobilenet.MobileNetV2 | mobilenetv3.MobileNetV3, ctx: Conversion, x: ChannelLayout
) -> Converted:
    return network, ctx.in_order(network, x, "features", "conv")
