"""Converters for FastReID's RepVGG, in its training form; extracted sub-models have FastReID's ``deploy``."""

from fastreid.modeling.backbones.repvgg import RepVGG, RepVGGBlock

from ..layers import ChannelLayout, WidthSwitch
from ..layers.slimmable import adopt
from .convert import Conversion, Converted, register_converter


class SlimmableRepVGGBlock(RepVGGBlock):
    """A block in which every sub-model slices all three branches. Its layers are themselves switchable."""

    switch: WidthSwitch
    in_layout: ChannelLayout

    def deploy(self, mode: bool = False) -> None:
        """Reject the fused form (RuntimeError): each width has its own fused kernel."""
        if mode:
            raise RuntimeError("a switchable RepVGG has no fused form: extract a sub-model and deploy that")

    def shell(self, index: int) -> RepVGGBlock:
        """A plain block of sub-model ``index``'s size. The caller must still make its branches static."""
        in_channels = self.in_layout.count(index)  # ``deploy`` builds the kernel of the identity from it
        return adopt(RepVGGBlock, self, "switch", "in_layout", in_channels=in_channels)


@register_converter(RepVGG)
def _convert_repvgg(network: RepVGG, ctx: Conversion, x: ChannelLayout) -> Converted:
    """Convert a RepVGG. With two or four groups (B1g2 to B3g4) each sub-model slices all groups.

    Few widths could own whole groups. Every axis therefore has as many segments as the grouped blocks have groups.
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
    return adopt(SlimmableRepVGGBlock, block, switch=ctx.switch, in_layout=x), layout
