"""Convolution and linear layers in which each sub-model uses a leading slice of the weights.

Slimmable Neural Networks, Yu et al., ICLR 2019. A converted layer is a subclass of the original layer, with the same
parameters and the same state-dict keys. At full width it runs the original ``forward``, so outputs are equal bit for
bit.
"""

from collections.abc import Callable
from typing import TypeVar

import torch.nn.functional as F
from torch import Tensor, nn

from .channels import ChannelLayout
from .width_switch import WidthSwitch

M = TypeVar("M", bound=nn.Module)
S = TypeVar("S", bound="_Slimmable")


def adopt(cls: type[M], module: nn.Module, *without: str, **attributes: object) -> M:
    """Create a ``cls`` object that shares ``module``'s Parameter and buffer objects, without running ``__init__``.

    It lacks ``module``'s attributes ``without``, and has the given ``attributes``.
    """
    new = cls.__new__(cls)
    new.__dict__.update(module.__dict__)
    for registry in ("_parameters", "_buffers", "_modules", "_non_persistent_buffers_set"):
        new.__dict__[registry] = module.__dict__[registry].copy()
    for name in without:
        delattr(new, name)
    for name, value in attributes.items():
        setattr(new, name, value)
    return new


def replace_tensors(module: nn.Module, change: Callable[[Tensor], Tensor]) -> None:
    """Replace ``module``'s own parameters and buffers (not those of its children) by the results of ``change``."""
    for key, parameter in module._parameters.items():
        if parameter is not None:
            module._parameters[key] = nn.Parameter(change(parameter.detach()), parameter.requires_grad)
    for key, buffer in module._buffers.items():
        if buffer is not None:
            module._buffers[key] = change(buffer)


class _Slimmable(nn.Module):
    """Mixin to put before a layer class. ``axes`` maps each parameter to the layouts of its leading axes."""

    weight: Tensor
    switch: WidthSwitch
    in_layout: ChannelLayout
    out_layout: ChannelLayout

    def axes(self) -> dict[str, tuple[ChannelLayout, ...]]:
        axes: dict[str, tuple[ChannelLayout, ...]] = {"weight": (self.out_layout, self.in_layout)}
        if self._parameters["bias"] is not None:
            axes["bias"] = (self.out_layout,)
        return axes

    def _weight(self, index: int) -> Tensor:
        return self.in_layout.take(self.out_layout.take(self.weight, 0, index), 1, index)

    def _bias(self, index: int) -> Tensor | None:
        bias = self._parameters["bias"]
        return None if bias is None else self.out_layout.take(bias, 0, index)

    def _static(self, cls: type[M], index: int) -> M:
        static = adopt(cls, self, "switch", "in_layout", "out_layout")
        for key, value in (("weight", self._weight(index)), ("bias", self._bias(index))):
            if value is not None:
                value = nn.Parameter(value.detach().clone(), requires_grad=getattr(self, key).requires_grad)
            static._parameters[key] = value
        return static

    @classmethod
    def convert(
        cls: type[S], module: nn.Module, switch: WidthSwitch, in_layout: ChannelLayout, out_layout: ChannelLayout
    ) -> S:
        """The slimmable version of ``module``. Both hold the same parameters."""
        return adopt(cls, module, switch=switch, in_layout=in_layout, out_layout=out_layout)


class SlimmableConv2d(_Slimmable, nn.Conv2d):
    """A convolution in which sub-model ``i`` uses ``weight[:out_i, :in_i]`` in ``groups_i`` groups.

    With groups, ``in_layout`` is the layout of the weight's second axis, which are the input channels of *one* group.
    Sub-models own either whole groups (fewer of them, as in a depthwise convolution) or the leading channels of every
    group.
    """

    kept_groups: tuple[int, ...] | None = None  # number of groups per sub-model; None: all of them, at every width

    def _groups(self, index: int) -> int:
        return self.groups if self.kept_groups is None else self.kept_groups[index]

    def forward(self, x: Tensor) -> Tensor:
        """``x`` is [N, in_i * groups_i, H, W], the result [N, out_i, H', W'] for the active sub-model ``i``."""
        if self.switch.is_full:
            return super().forward(x)
        index = self.switch.index
        weight, bias = self._weight(index), self._bias(index)
        return F.conv2d(x, weight, bias, self.stride, self.padding, self.dilation, self._groups(index))

    def to_static(self, index: int) -> nn.Conv2d:
        """An ordinary convolution with a copy of sub-model ``index``'s slice."""
        static = self._static(nn.Conv2d, index)
        static.__dict__.pop("kept_groups", None)
        static.groups = self._groups(index)
        static.out_channels, static.in_channels = static.weight.shape[0], static.weight.shape[1] * static.groups
        return static


class SlimmableLinear(_Slimmable, nn.Linear):
    """A linear layer in which sub-model ``i`` uses ``weight[:out_i, :in_i]``."""

    def forward(self, x: Tensor) -> Tensor:
        """``x`` is [..., in_i], the result [..., out_i] for the active sub-model ``i``."""
        if self.switch.is_full:
            return super().forward(x)
        index = self.switch.index
        return F.linear(x, self._weight(index), self._bias(index))

    def to_static(self, index: int) -> nn.Linear:
        """An ordinary linear layer with a copy of sub-model ``index``'s slice."""
        static = self._static(nn.Linear, index)
        static.out_features, static.in_features = static.weight.shape
        return static
