"""Converters for FastReID's vision transformer: every width has the leading heads, each complete.

The embedding is sliced like the heads. A sub-model is therefore a transformer with fewer heads of the same size;
tokens, position embedding and MLPs shrink with it.
"""

import math
from collections.abc import Mapping

import torch
from fastreid.layers import DropPath
from fastreid.modeling.backbones.vision_transformer import Attention, Block, Mlp, VisionTransformer, resize_pos_embed
from torch import Tensor, nn

from ..layers import ChannelLayout, WidthSwitch
from ..layers.slimmable import adopt
from .convert import Conversion, Converted, convert_channelwise, register_converter

TOKENS = ("cls_token", "pos_embed")


class SlimmableAttention(Attention):
    """Attention in which sub-model ``i`` has the leading ``heads[i]`` heads. Its layers are themselves switchable."""

    switch: WidthSwitch
    heads: tuple[int, ...]

    @property
    def num_heads(self) -> int:
        """Number of heads of the active sub-model, which FastReID's forward reads."""
        return self.heads[self.switch.index]

    def shell(self, index: int) -> Attention:
        """Attention with sub-model ``index``'s heads. The caller must still make its layers static."""
        return adopt(Attention, self, "switch", "heads", num_heads=self.heads[index])


class SlimmableVisionTransformer(VisionTransformer):
    """A transformer whose forward, FastReID's, finds the class token and positions of the active sub-model."""

    switch: WidthSwitch
    layout: ChannelLayout

    @property
    def cls_token(self) -> Tensor:
        """The class token [1, 1, C_i] of the active sub-model."""
        return self._take("cls_token", self.switch.index)

    @property
    def pos_embed(self) -> Tensor:
        """The position embedding [1, 1 + patches, C_i] of the active sub-model."""
        return self._take("pos_embed", self.switch.index)

    def _take(self, name: str, index: int) -> Tensor:
        return self.layout.take(self._parameters[name], 2, index)

    def axes(self) -> dict[str, tuple[ChannelLayout, ...]]:
        """Layouts of the axes of the module's own parameters."""

        def fixed(size: int) -> ChannelLayout:
            return ChannelLayout((size,), ((size,),) * len(self.switch))

        return {name: (fixed(1), fixed(self._parameters[name].shape[1]), self.layout) for name in TOKENS}

    def shell(self, index: int) -> VisionTransformer:
        """A transformer with sub-model ``index``'s tokens. The caller must still make its layers static."""
        static = adopt(VisionTransformer, self, "switch", "layout")
        for name in TOKENS:
            static._parameters[name] = nn.Parameter(
                self._take(name, index).detach(), requires_grad=self._parameters[name].requires_grad
            )
        return static


def fit_positions(network: VisionTransformer, weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Interpolate the positions in a transformer's ``weights`` to the image size, as FastReID's builder does."""
    positions, own = weights.get("pos_embed"), network.pos_embed
    if positions is None or positions.shape == own.shape:
        return weights
    if "dist_token" in weights:  # DeiT's second token has a position too
        positions = torch.cat([positions[:, :1], positions[:, 2:]], dim=1)
    if math.isqrt(positions.shape[1] - 1) ** 2 != positions.shape[1] - 1:  # no square grid: of unknown height
        return weights
    patches = network.patch_embed
    return {**weights, "pos_embed": resize_pos_embed(positions, own.detach(), patches.num_y, patches.num_x)}


register_converter(nn.GELU, DropPath)(convert_channelwise)


@register_converter(Attention)
def _convert_attention(module: Attention, ctx: Conversion, x: ChannelLayout) -> Converted:
    size = x.total // module.num_heads
    if any(count % size for (count,) in x.kept):
        raise ctx.refuse(module, f"needs an input of whole heads of {size} channels at every width", x.kept)
    module.qkv, values = ctx.linear(module.qkv, x, out=ChannelLayout.concatenate(x, x, x))
    module.proj, _ = ctx.linear(module.proj, values.parts[2], out=x)
    heads = tuple(x.count(index) // size for index in range(len(ctx.switch)))
    return adopt(SlimmableAttention, module, switch=ctx.switch, heads=heads), x


@register_converter(Mlp)
def _convert_mlp(module: Mlp, ctx: Conversion, x: ChannelLayout) -> Converted:
    hidden = ctx.in_order(module, x, "fc1", "act")
    module.fc2, _ = ctx.linear(module.fc2, hidden, out=x)
    return module, x


@register_converter(Block)
def _convert_block(block: Block, ctx: Conversion, x: ChannelLayout) -> Converted:
    return block, ctx.in_order(block, x)  # all of them keep the layout, so both sums add the same channels


@register_converter(VisionTransformer)
def _convert_transformer(network: VisionTransformer, ctx: Conversion, x: ChannelLayout) -> Converted:
    if network.cam_num:
        raise ctx.refuse(network, "camera embeddings have no converter", f"{network.cam_num} cameras")
    channels = network.patch_embed.proj.out_channels
    layout = ctx.rule.slim(channels, unit=channels // network.blocks[0].attn.num_heads)
    network.patch_embed.proj, x = ctx.conv(network.patch_embed.proj, x, out=layout)
    x = ctx.in_order(network.blocks, x)
    x = ctx.in_order(network, x, "norm")
    return adopt(SlimmableVisionTransformer, network, switch=ctx.switch, layout=x), x
