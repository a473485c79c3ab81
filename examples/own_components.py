#!/usr/bin/env python
"""Add your own backbone, loss and aggregator from outside the package, each registered under a name.

This file is the training command with these three components, and takes the same options. Configs then name them:

    python examples/own_components.py --config-file configs/quick/sfsc_tiny.yml \
        MODEL.SWITCHABLE.BACKBONE build_two_convs MODEL.BACKBONE.FEAT_DIM 64 \
        MODEL.LOSSES.NAME "('CompatibleLoss', 'CompactLoss')" SOLVER.AGGREGATION.NAME strongest
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from switchablecompat import load_config  # noqa: F401  (before anything of FastReID)
from switchablecompat.aggregation import AGGREGATORS
from switchablecompat.aggregation.aggregators import Aggregator
from switchablecompat.losses import register_loss
from switchablecompat.modeling import register_converter
from switchablecompat_command import main

from fastreid.modeling.backbones import BACKBONE_REGISTRY  # isort: skip


class TwoConvs(nn.Module):
    """An ordinary network without widths."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, channels // 2, 3, stride=4, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels // 2)
        self.conv2 = nn.Conv2d(channels // 2, channels, 3, stride=2, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        """[N, 3, H, W] to [N, C, H/8, W/8]."""
        return F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))))


@BACKBONE_REGISTRY.register()
def build_two_convs(cfg):
    """Build the network; FastReID's registry finds this function by its name."""
    return TwoConvs(cfg.MODEL.BACKBONE.FEAT_DIM)


@register_converter(TwoConvs)
def convert_two_convs(network, ctx, x):
    """Make it switchable: name its layers in order, through which the channel layout passes, starting with x."""
    return network, ctx.in_order(network, x, "conv1", "bn1", "conv2", "bn2")


@register_loss
def CompactLoss(outputs: Mapping[str, Tensor], targets: Tensor, is_full: bool) -> Tensor:  # noqa: N802  (as FastReID's)
    """Mean squared distance of a sub-model's features ([N, D]) to the mean feature of their identity ([N] int64)."""
    features = outputs["features"]
    same = (targets[:, None] == targets).to(features.dtype)
    return F.mse_loss(features, (same @ features) / same.sum(dim=1, keepdim=True))


class Strongest(Aggregator):
    """Uses only the longest gradient of each group, multiplied by the number of gradients."""

    def __call__(self, shell_grams: Tensor, generator: torch.Generator, factors: Tensor | None = None) -> Tensor:
        """Weights [groups, shells, m] from Gram matrices [groups, shells, m, m]: diagonals are squared lengths."""
        lengths = shell_grams.sum(dim=1).diagonal(dim1=-2, dim2=-1)
        weights = lengths.shape[-1] * F.one_hot(lengths.argmax(dim=-1), lengths.shape[-1]).to(lengths.dtype)
        return weights.unsqueeze(1).expand(shell_grams.shape[:-1])


AGGREGATORS["strongest"] = lambda node: Strongest()  # node: SOLVER.AGGREGATION of the config

if __name__ == "__main__":
    main("train", "python examples/own_components.py")
