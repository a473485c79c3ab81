"""Conversion of an ordinary network into a switchable one, layer by layer in its own module tree.

A converter takes a module and the :class:`ChannelLayout` of its input. It returns the switchable module and the layout
of its output. Layouts flow through the network as tensors do, so the conversion finds layers that do not fit. It
rejects a module without a converter and names it.
"""

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import nn

from ..errors import InputError
from ..layers import (
    ChannelLayout,
    ChannelRule,
    SlimmableConv2d,
    SlimmableLinear,
    SwitchableBatchNorm2d,
    SwitchableInstanceNorm2d,
    SwitchableLayerNorm,
    SwitchableNorm,
    SwitchableSyncBatchNorm,
    WidthSwitch,
)
from ..layers.slimmable import adopt, replace_tensors

Converted = tuple[nn.Module, ChannelLayout]
Converter = Callable[[Any, "Conversion", ChannelLayout], Converted]  # the first argument has the registered type

_CONVERTERS: dict[type[nn.Module], Converter] = {}


class SwitchableNetwork(nn.Module):
    """Type of a converted network, for the type checker only. The network keeps its class and has these attributes."""

    switch: WidthSwitch
    out_layout: ChannelLayout  # of the output


def register_converter(*types: type[nn.Module]) -> Callable[[Converter], Converter]:
    """Decorator: use the function for modules of these types, and of their subclasses without a converter."""

    def register(function: Converter) -> Converter:
        _CONVERTERS.update(dict.fromkeys(types, function))
        return function

    return register


class Conversion:
    """State of one conversion: the shared switch, the channel rule, and the names of the layers (for messages).

    Args:
        widths, divisor: As in :class:`ChannelRule`.
        switch: Switch of parts that are already converted (default: a new one with ``widths``).
        fresh_norms: Whether norms of narrow widths start fresh instead of from slices of the full model's norms.
    """

    def __init__(
        self,
        widths: Sequence[float] = (),
        divisor: int = 8,
        switch: WidthSwitch | None = None,
        *,
        fresh_norms: bool = False,
    ) -> None:
        self.switch = switch or WidthSwitch(widths)
        self.fresh_norms = fresh_norms
        self.rule = ChannelRule(self.switch.shares, divisor)
        self._names: dict[int, str] = {}

    def convert_network(self, network: nn.Module) -> tuple[SwitchableNetwork, ChannelLayout]:
        """Convert a whole network, whose input are images of three channels; returns it and its output's layout.

        Raises:
            InputError: A layer has no converter or does not fit its input.
        """
        self._names = {id(module): name for name, module in network.named_modules()}
        converted, layout = self.convert(network, self.rule.fixed(3))
        switchable = cast(SwitchableNetwork, converted)
        switchable.switch, switchable.out_layout = self.switch, layout
        return switchable, layout

    def convert(self, module: nn.Module, x: ChannelLayout) -> Converted:
        """Convert one module; ``x`` is the layout of its input."""
        converter = next((_CONVERTERS[cls] for cls in type(module).__mro__ if cls in _CONVERTERS), None)
        if converter is None:
            raise self.refuse(module, "has no converter; add one with register_converter", type(module).__module__)
        return converter(module, self, x)

    def in_order(self, module: nn.Module, x: ChannelLayout, *names: str) -> ChannelLayout:
        """Convert children (default: all) that run in the order of ``names``, in place.

        ``x`` is the layout of the first one's input, the result that of the last one's output.
        """
        for name in names or tuple(module._modules):
            module._modules[name], x = self.convert(module.get_submodule(name), x)
        return x

    def conv(self, module: nn.Conv2d, x: ChannelLayout, out: ChannelLayout | None = None) -> Converted:
        """Convert a convolution so that its output has layout ``out`` (default: an ordinary slim axis).

        For a grouped convolution the input determines the output. If the input has one segment per group, every
        sub-model has all groups, with the leading channels of each. Otherwise it has the leading groups, each complete.
        """
        self.require_plain(module, nn.Conv2d, "_conv_forward")
        if module.padding_mode != "zeros":
            raise self.refuse(module, "only zero padding has a converter", f"padding_mode={module.padding_mode!r}")
        self.require(module, module.in_channels, x)
        if module.groups > 1:
            return self._grouped_conv(module, x)
        out = out or self.rule.slim(module.out_channels)
        return SlimmableConv2d.convert(module, self.switch, x, out), out

    def _grouped_conv(self, module: nn.Conv2d, x: ChannelLayout) -> Converted:
        groups = module.groups
        inputs, outputs = module.in_channels // groups, module.out_channels // groups
        if len(x.segments) == groups and all(part == x.parts[0] for part in x.parts):
            out = self.rule.parts(module.out_channels, groups)
            return SlimmableConv2d.convert(module, self.switch, x.parts[0], out), out
        if any(count % inputs for counts in (x.segments, *x.kept) for count in counts):
            rule = f"needs an input of whole groups of {inputs} channels at every width"
            raise self.refuse(module, rule, [list(counts) for counts in x.kept])
        out = ChannelLayout(
            tuple(size // inputs * outputs for size in x.segments),
            tuple(tuple(count // inputs * outputs for count in counts) for counts in x.kept),
        )
        kept_groups = tuple(x.count(index) // inputs for index in range(len(self.switch)))
        conv = SlimmableConv2d.convert(module, self.switch, self.rule.fixed(inputs), out)
        conv.kept_groups = kept_groups
        return conv, out

    def linear(self, module: nn.Linear, x: ChannelLayout, out: ChannelLayout | None = None) -> Converted:
        """Convert a linear layer so that its output has layout ``out`` (default: an ordinary slim axis)."""
        self.require_plain(module, nn.Linear)
        self.require(module, module.in_features, x)
        out = out or self.rule.slim(module.out_features)
        return SlimmableLinear.convert(module, self.switch, x, out), out

    def require(self, module: nn.Module, channels: int, x: ChannelLayout) -> None:
        """Reject ``module`` if its number of input channels differs from the layout's."""
        if channels != x.total:
            raise self.refuse(module, f"expects {channels} channels", f"an input of {x.total}")

    def require_same(self, module: nn.Module, a: ChannelLayout, b: ChannelLayout) -> None:
        """Reject ``module`` if it adds two tensors whose channels differ at some width."""
        if a.kept != b.kept:
            rule = "adds two tensors, which must own the same channels at every width"
            raise self.refuse(module, rule, (a.kept, b.kept))

    def refuse(self, module: nn.Module, rule: str, found: object) -> InputError:
        """Make the error for a module that cannot be converted, with its name in the network."""
        name = self._names.get(id(module), "") or "network"
        return InputError(f"MODEL.SWITCHABLE.BACKBONE, layer {name} ({type(module).__name__})", rule, found)

    def require_plain(self, module: nn.Module, plain: type[nn.Module], *also: str) -> None:
        """Reject a subclass that computes something else (weight standardisation, parametrised weights, hooks)."""
        same = all(getattr(type(module), name) is getattr(plain, name) for name in ("forward", *also))
        if not same or hasattr(module, "parametrizations") or module._forward_hooks or module._forward_pre_hooks:
            rule = f"does more than {plain.__name__}; it needs a converter of its own"
            raise self.refuse(module, rule, type(module).__module__)


@register_converter(
    nn.Identity,
    nn.ReLU,
    nn.ReLU6,
    nn.Sigmoid,
    nn.Hardswish,
    nn.MaxPool2d,
    nn.AvgPool2d,
    nn.AdaptiveAvgPool2d,
    nn.Dropout,
)
def convert_channelwise(module: nn.Module, ctx: Conversion, x: ChannelLayout) -> Converted:
    """Keep a layer without parameters that treats all channels alike; it works at any width."""
    return module, x


@register_converter(nn.Conv2d)
def _convert_conv(module: nn.Conv2d, ctx: Conversion, x: ChannelLayout) -> Converted:
    return ctx.conv(module, x)


@register_converter(nn.Linear)
def _convert_linear(module: nn.Linear, ctx: Conversion, x: ChannelLayout) -> Converted:
    return ctx.linear(module, x)


@register_converter(nn.BatchNorm2d, nn.SyncBatchNorm, nn.InstanceNorm2d)
def _convert_norm(
    module: nn.BatchNorm2d | nn.SyncBatchNorm | nn.InstanceNorm2d, ctx: Conversion, x: ChannelLayout
) -> Converted:
    twins: tuple[type[SwitchableNorm], ...] = (SwitchableBatchNorm2d, SwitchableSyncBatchNorm, SwitchableInstanceNorm2d)
    ctx.require(module, module.num_features, x)
    if type(module).forward not in (twin.plain.forward for twin in twins):
        rule = "this kind of normalization has no converter; use MODEL.BACKBONE.NORM BN"
        raise ctx.refuse(module, rule, type(module))
    twin = next(twin for twin in twins if isinstance(module, twin.plain))
    return twin.convert(module, ctx.switch, x, ctx.fresh_norms), x


@register_converter(nn.LayerNorm)
def _convert_layer_norm(module: nn.LayerNorm, ctx: Conversion, x: ChannelLayout) -> Converted:
    ctx.require_plain(module, nn.LayerNorm)
    if module.normalized_shape != (x.total,):
        raise ctx.refuse(module, f"must normalise {x.total} channels", module.normalized_shape)
    return SwitchableLayerNorm.convert(module, ctx.switch, x, ctx.fresh_norms), x


@register_converter(nn.Sequential)
def _convert_sequential(module: nn.Sequential, ctx: Conversion, x: ChannelLayout) -> Converted:
    ctx.require_plain(module, nn.Sequential)
    return module, ctx.in_order(module, x)


def extract_module(module: nn.Module, index: int) -> nn.Module:
    """Make the plain, static version of a switchable module for sub-model ``index``, without shared memory.

    This inverts the conversion. Slimmable layers become ordinary layers with copied slices; containers keep their
    class. A module that behaves differently per width has a method ``shell(index)``, which returns the module for one
    width. Its children are made static afterwards.
    """
    to_static, shell = getattr(module, "to_static", None), getattr(module, "shell", None)
    if to_static is not None:
        return to_static(index)
    new = adopt(getattr(module, "plain_class", type(module)), module) if shell is None else shell(index)
    for key in ("switch", "out_layout"):
        new.__dict__.pop(key, None)
    replace_tensors(new, torch.clone)
    for name, child in new._modules.items():
        new._modules[name] = None if child is None else extract_module(child, index)
    return new
