import pytest
import torch
from fastreid.modeling.backbones import BACKBONE_REGISTRY
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from builders import tiny_config
from switchablecompat.errors import InputError
from switchablecompat.modeling import Conversion, register_converter
from switchablecompat.modeling.convert import extract_module


class Unknown(nn.Module):
    def forward(self, x):
        return x


class Gate(nn.Module):
    """A block of one's own, for the documented way of adding a converter."""

    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 1)
        self.alpha = nn.Parameter(torch.ones(()))

    def forward(self, x):
        return x * torch.sigmoid(self.alpha * self.conv(x))


class Standardised(nn.Conv2d):
    """Looks like a convolution, computes something else."""

    def forward(self, x):
        return self._conv_forward(x, self.weight - self.weight.mean(), self.bias)


class Skip(nn.Sequential):
    def forward(self, x):
        return x + super().forward(x)


@pytest.mark.parametrize(
    ("layer", "rule"),
    [
        (Unknown(), r"layer 1 \(Unknown\): has no converter"),
        (nn.PixelShuffle(2), r"layer 1 \(PixelShuffle\): has no converter"),
        (nn.LayerNorm([8, 4, 4]), r"\(LayerNorm\): must normalise 8 channels"),
        (nn.Conv2d(8, 8, 3, padding=1, padding_mode="reflect"), "only zero padding"),
        (nn.GroupNorm(4, 8), r"\(GroupNorm\): has no converter"),
        (nn.Conv2d(9, 8, 3), "expects 9 channels, found an input of 8"),
        (nn.BatchNorm2d(5), "expects 5 channels"),
        (nn.ModuleList([nn.ReLU()]), r"\(ModuleList\): has no converter"),
        (Standardised(8, 8, 1), r"\(Standardised\): does more than Conv2d"),
        (nn.utils.parametrizations.weight_norm(nn.Conv2d(8, 8, 1)), "does more than Conv2d"),
        (Skip(nn.Conv2d(8, 8, 1)), r"\(Skip\): does more than Sequential"),
    ],
)
def test_what_cannot_be_converted_is_refused_by_name(layer, rule):
    with pytest.raises(InputError, match=rule):
        Conversion([0.5, 1.0], 2).convert_network(nn.Sequential(nn.Conv2d(3, 8, 1), layer))


@pytest.mark.parametrize("norm", ["GhostBN", "FrozenBN", "GN"])
def test_fastreid_norms_without_converter_are_refused_by_name(norm):
    cfg = tiny_config().clone()
    cfg.defrost()
    cfg.MODEL.BACKBONE.NORM, cfg.MODEL.BACKBONE.DEPTH = norm, "50x"
    network = BACKBONE_REGISTRY.get("build_resnet_backbone")(cfg)
    with pytest.raises(InputError, match=r"layer bn1 \((GhostBatchNorm|FrozenBatchNorm|GroupNorm)\)"):
        Conversion([0.5, 1.0]).convert_network(network)


def test_sync_bn_converts():
    network = nn.Sequential(nn.Conv2d(3, 8, 1), nn.SyncBatchNorm(8))
    network, _ = Conversion([0.5, 1.0], 2).convert_network(network)
    assert type(extract_module(network, 0)[1]) is nn.SyncBatchNorm
    assert extract_module(network, 0)[1].num_features == 4


def test_a_converter_of_ones_own():
    @register_converter(Gate)
    def convert_gate(block, ctx, x):
        block.conv, out = ctx.conv(block.conv, x)
        ctx.require_same(block, out, x)
        return block, out

    network = nn.Sequential(nn.Conv2d(3, 8, 1), Gate(8))
    network, layout = Conversion([0.5, 1.0], 2).convert_network(network)
    x = torch.randn(2, 3, 4, 4)
    with network.switch.use(0):
        assert torch.equal(extract_module(network, 0)(x), network(x))
    assert layout.count(0) == 4


@settings(max_examples=25, deadline=None)
@given(
    hundredths=st.lists(st.integers(5, 95), min_size=1, max_size=4, unique=True),
    channels=st.lists(st.integers(1, 24), min_size=2, max_size=4),
    divisor=st.integers(1, 8),
)
def test_any_widths_any_channels(hundredths, channels, divisor):
    widths = [h / 100 for h in sorted(hundredths)] + [1.0]
    layers, last = [], 3
    for count in channels:
        layers += [nn.Conv2d(last, count, 3, padding=1), nn.BatchNorm2d(count), nn.ReLU()]
        last = count
    network, layout = Conversion(widths, divisor).convert_network(nn.Sequential(*layers))
    network.eval()
    x = torch.randn(1, 3, 5, 5)
    for index in range(len(widths)):
        with network.switch.use(index), torch.no_grad():
            y = network(x)
            assert y.shape[1] == layout.count(index)
            assert torch.equal(extract_module(network, index)(x), y)
