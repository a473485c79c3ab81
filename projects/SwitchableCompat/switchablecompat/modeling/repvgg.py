"""Converters for FastReID's RepVGG, in its training form; extracted sub-models have FastReID's ``deploy``."""

from __future__ import annotations

from fastreid.modeling.backbones.repvgg import RepVGG, RepVGGBlock

from ..layers import ChannelLayout, WidthSwitch
from ..layers.slimmable import adopt
from .convert import Conversion, Converted, register_converter


class SlimmableRepVGGBlock(RepVGGBlock):
    """A block of which every sub-model slices all three branches; its layers are switchable themselves."""

    switch: WidthSwitch
    in_layout: ChannelLayout

    def deploy(self, mode: bool = False) -> None:
        """Not here: one fused kernel per width is what extracted sub-models are for.

        Raises:
            RuntimeError: The fused form is asked for.
        """
        if mode:
            raise RuntimeError("a switchable RepVGG has no fused form: extract a sub-model and deploy that")

    def shell(self, index: int) -> RepVGGBlock:
        """A plain block of sub-model ``index``'s size, whose branches still have to be made static."""
        static = adopt(RepVGGBlock, self)
        for key in ("switch", "in_layout"):
            del static.__dict__[key]
        static.in_channels = self.in_layout.count(index)  # what ``deploy`` makes the identity's kernel from
        return static


@register_converter(RepVGG)
def _convert_repvgg(network: RepVGG, ctx: Conversion, x: ChannelLayout) -> Converted:
    """With two or four groups (B1g2 to B3g4) few widths could own whole ones: each sub-model slices all of them.

    So every axis has as many segments as the grouped blocks have groups.
    """
    parts = max(block.groups for block in network.modules() if isinstance(block, RepVGGBlock))
    network.stage0, x = _convert_block(network.stage0, ctx, x, parts)
    for stage in (network.stage1, network.stage2, network.stage3, network.stage4):
        for i, block in enumerate(stage):
            stage[i], x = _convert_block(block, ctx, x, parts)
    return network, x


def _convert_block(block: RepVGGBlock, ctx: Conversion, x: ChannelLayout, parts: int) -> Converted:
    if block.deploying:
        raise ctx.refuse(block, "only the training form has a converter", "a fused kernel")
    layout = ctx.rule.parts(block.rbr_dense.conv.out_channels, parts)
    for branch in (block.rbr_dense, block.rbr_1x1):
        branch.conv, out = ctx.conv(branch.conv, x, out=layout)
        branch.bn, _ = ctx.convert(branch.bn, out)
        ctx.require_same(block, out, layout)
    if block.rbr_identity is not None:
        block.rbr_identity, identity = ctx.convert(block.rbr_identity, x)
        ctx.require_same(block, layout, identity)
    new = adopt(SlimmableRepVGGBlock, block)
    new.switch, new.in_layout = ctx.switch, x
    return new, layout
