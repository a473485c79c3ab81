"""Normalization layers with private statistics and private affine parameters per sub-model.

Switchable batch normalization, Slimmable Neural Networks, Yu et al., ICLR 2019, section 3.3. The full model keeps the
plain state-dict keys (``bn1.weight``); every narrower sub-model has its own layer below ``narrow``
(``bn1.narrow.w025.weight``). An ordinary FastReID or ImageNet checkpoint does not contain these keys. The narrow layers
then take its leading channels or start fresh (scale 1, shift 0, mean 0, variance 1).
"""

import copy
from typing import Any, TypeVar

from torch import Tensor, nn

from .channels import ChannelLayout
from .slimmable import adopt, replace_tensors
from .width_switch import WidthSwitch

N = TypeVar("N", bound="SwitchableNorm")


class SwitchableNorm(nn.Module):
    """Mixin to put before a norm class. The module itself is the full model's layer; ``narrow`` holds those of the
    others."""

    switch: WidthSwitch
    layout: ChannelLayout
    narrow: nn.ModuleDict
    plain: type[nn.Module]
    fresh: bool  # initial values of the narrow layers

    @classmethod
    def convert(cls: type[N], module: nn.Module, switch: WidthSwitch, layout: ChannelLayout, fresh: bool = False) -> N:
        """The switchable version of ``module``. Narrow layers start from its leading channels, or ``fresh``."""
        new = adopt(cls, module, switch=switch, layout=layout, fresh=fresh, narrow=nn.ModuleDict())
        new.narrow.update({name: new._leading(i) for i, name in enumerate(switch.names[:-1])})
        return new

    def forward(self, x: Tensor) -> Tensor:
        """``x`` is [N, C_i, H, W] for the active sub-model ``i``; the result has the same shape."""
        if self.switch.is_full:
            return super().forward(x)
        return self.narrow[self.switch.name](x)

    def of(self, index: int) -> nn.Module:
        """The norm layer of sub-model ``index`` (for the full model, this module itself)."""
        return self if index == self.switch.full_index else self.narrow[self.switch.names[index]]

    def to_static(self, index: int) -> nn.Module:
        """An ordinary norm layer with a copy of sub-model ``index``'s parameters and statistics."""
        return copy.deepcopy(self._plain() if index == self.switch.full_index else self.of(index))

    def _plain(self) -> nn.Module:
        return adopt(self.plain, self, "switch", "layout", "fresh", "narrow")

    def _leading(self, index: int) -> nn.Module:
        new: Any = copy.deepcopy(self._plain())
        self._resize(new, self.layout.count(index))
        replace_tensors(new, lambda value: self.layout.take(value, 0, index).clone() if value.dim() else value)
        if self.fresh:
            new.reset_parameters()  # and running statistics
        return new

    @staticmethod
    def _resize(norm: Any, channels: int) -> None:
        norm.num_features = channels

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        for index, name in enumerate(self.switch.names[:-1]):
            own = f"{prefix}narrow.{name}."
            if any(key.startswith(own) and key != f"{own}num_batches_tracked" for key in state_dict):
                continue  # that number fits norms of any size, and says nothing alone
            start = self._leading(index).state_dict() if self.fresh else {}
            for key in (*self._parameters, *self._buffers):
                full = state_dict.get(prefix + key)
                if full is None or (full.dim() and full.shape[0] != self.layout.total):
                    continue
                if self.fresh:
                    state_dict[own + key] = start[key]
                else:
                    state_dict[own + key] = self.layout.take(full, 0, index) if full.dim() else full
        super()._load_from_state_dict(state_dict, prefix, *args)


class SwitchableBatchNorm2d(SwitchableNorm, nn.BatchNorm2d):
    """Batch normalization with private statistics and affine parameters per sub-model."""

    plain = nn.BatchNorm2d


class SwitchableSyncBatchNorm(SwitchableNorm, nn.SyncBatchNorm):
    """Switchable batch normalization over several processes (FastReID's ``syncBN``)."""

    plain = nn.SyncBatchNorm


class SwitchableInstanceNorm2d(SwitchableNorm, nn.InstanceNorm2d):
    """Instance normalization with private affine parameters per sub-model (the first half of IBN)."""

    plain = nn.InstanceNorm2d


class SwitchableLayerNorm(SwitchableNorm, nn.LayerNorm):
    """Layer normalization over the last axis with private affine parameters per sub-model; ``x`` is [..., C_i]."""

    plain = nn.LayerNorm

    @staticmethod
    def _resize(norm: Any, channels: int) -> None:
        norm.normalized_shape = (channels,)


RunningNorm = nn.BatchNorm2d | nn.SyncBatchNorm | nn.InstanceNorm2d


def running_norms(model: nn.Module, index: int) -> list[RunningNorm]:
    """The norm layers of sub-model ``index`` that keep running statistics."""
    norms = [m.of(index) for m in model.modules() if isinstance(m, SwitchableNorm)]
    return [norm for norm in norms if isinstance(norm, RunningNorm) and norm.running_mean is not None]
