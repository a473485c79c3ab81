"""Layers that run at several widths."""

from .channels import ChannelLayout, ChannelRule, scaled_channels
from .ownership import SharedParameter, private_parameters, shared_parameters
from .slimmable import SlimmableConv2d, SlimmableLinear
from .switchable_norm import (
    SwitchableBatchNorm2d,
    SwitchableInstanceNorm2d,
    SwitchableLayerNorm,
    SwitchableNorm,
    SwitchableSyncBatchNorm,
    running_norms,
)
from .width_switch import WidthSwitch, check_widths

__all__ = [
    "ChannelLayout",
    "ChannelRule",
    "SharedParameter",
    "SlimmableConv2d",
    "SlimmableLinear",
    "SwitchableBatchNorm2d",
    "SwitchableInstanceNorm2d",
    "SwitchableLayerNorm",
    "SwitchableNorm",
    "SwitchableSyncBatchNorm",
    "WidthSwitch",
    "check_widths",
    "private_parameters",
    "running_norms",
    "scaled_channels",
    "shared_parameters",
]
