"""Grouped convolutions: whole groups, or the leading channels of every group, whichever the input's layout says."""

import copy

import pytest
import torch
import torch.nn.functional as F
from fastreid.modeling.backbones import repvgg, shufflenet
from torch import nn

from builders import randomise
from switchablecompat.errors import InputError
from switchablecompat.layers import ChannelLayout, ChannelRule
from switchablecompat.modeling import Conversion
from switchablecompat.modeling.convert import extract_module

WIDTHS = [0.25, 0.5, 1.0]


def converted(layer, x):
    ctx = Conversion(WIDTHS, 1)
    layer, out = ctx.convert(layer, x)
    return ctx.switch, layer, out


@pytest.mark.parametrize(("inputs", "outputs"), [(4, 4), (4, 8), (1, 1), (1, 3)])
@pytest.mark.parametrize("index", [0, 1])
def test_the_number_of_groups_is_scaled_and_their_size_is_kept(inputs, outputs, index):
    plain = nn.Conv2d(8 * inputs, 8 * outputs, 3, padding=1, groups=8)
    switch, conv, out = converted(plain, ChannelRule(WIDTHS, 1).slim(8 * inputs, unit=inputs))
    groups = (2, 4)[index]
    x = torch.randn(2, groups * inputs, 5, 5)
    expected = F.conv2d(x, plain.weight[: groups * outputs], plain.bias[: groups * outputs], padding=1, groups=groups)
    with switch.use(index):
        assert torch.equal(conv(x), expected)
    assert out.count(index) == groups * outputs
    static = conv.to_static(index)
    assert (static.groups, static.in_channels, static.out_channels) == (groups, groups * inputs, groups * outputs)
    assert type(static) is nn.Conv2d
    assert torch.equal(static(x), expected)


@pytest.mark.parametrize("index", [0, 1])
def test_an_input_with_a_segment_per_group_keeps_all_groups_and_slices_each(index):
    plain = nn.Conv2d(16, 24, 3, padding=1, groups=2)
    switch, conv, out = converted(plain, ChannelRule(WIDTHS, 1).parts(16, 2))
    in_, out_ = (2, 4)[index], (3, 6)[index]
    x = torch.randn(2, 2 * in_, 5, 5)
    halves = zip(x.chunk(2, 1), plain.weight.chunk(2), plain.bias.chunk(2), strict=True)
    expected = torch.cat([F.conv2d(a, w[:out_, :in_], b[:out_], padding=1) for a, w, b in halves], 1)
    with switch.use(index):
        torch.testing.assert_close(conv(x), expected)
    assert out.segments == (12, 12)
    static = conv.to_static(index)
    assert (static.groups, static.in_channels, static.out_channels) == (2, 2 * in_, 2 * out_)
    torch.testing.assert_close(static(x), expected)


def test_a_depthwise_convolution_keeps_its_inputs_segments():
    x = ChannelLayout((2, 3, 1), ((1, 1, 1), (1, 2, 1), (2, 3, 1)))
    plain = nn.Conv2d(6, 6, 3, groups=6)
    switch, conv, out = converted(plain, x)
    assert out == x
    data, kept = torch.randn(1, 3, 4, 4), [0, 2, 5]
    with switch.use(0):
        assert torch.equal(conv(data), F.conv2d(data, plain.weight[kept], plain.bias[kept], groups=3))


def test_groups_that_a_width_would_cut_are_refused():
    rule = r"whole groups of 4 channels at every width, found \[\[3\], \[6\], \[12\]\]"
    with pytest.raises(InputError, match=rule):
        converted(nn.Conv2d(12, 12, 3, groups=3), ChannelRule(WIDTHS, 1).slim(12))


@pytest.mark.parametrize("index", range(3))
def test_a_sub_models_shuffle_is_the_full_models(index):
    """Input channels carry their number, branches pass on what they get: the output says which channel went where."""
    plain = shufflenet.ShuffleV2Block("BN", 10, 20, mid_channels=10, ksize=3, stride=1)
    x = ChannelLayout((5, 6, 9), ((2, 3, 1), (3, 3, 4), (5, 6, 9)))
    _, block, out = converted(copy.deepcopy(plain), x)
    kept = [c for c in range(20) if x.owner()[c] <= index]
    numbers = torch.tensor([float(c) for c in kept]).view(1, -1, 1, 1)
    with block.switch.use(index):
        passed, convolved = block.channel_shuffle(numbers)
    assert passed.flatten().tolist() == [c for c in kept if c % 2 == 0]
    assert convolved.flatten().tolist() == [c for c in kept if c % 2]
    assert out.segments == (3, 3, 4, 10)
    static = extract_module(block, index)
    assert [part.flatten().tolist() for part in static.channel_shuffle(numbers)] == [
        passed.flatten().tolist(),
        convolved.flatten().tolist(),
    ]
    assert (type(static) is shufflenet.ShuffleV2Block) == (index == 2)


@pytest.mark.parametrize("groups", [{}, repvgg.g2_map, repvgg.g4_map])
def test_repvgg_sub_models_deploy(groups):
    plain = repvgg.RepVGG(1, "BN", [1, 2, 2, 1], [0.5, 0.5, 0.25, 0.25], groups)
    randomise(plain)
    network, _ = Conversion(WIDTHS).convert_network(copy.deepcopy(plain))
    plain.eval(), network.eval()
    x = torch.randn(2, 3, 64, 32)
    with pytest.raises(RuntimeError, match="extract a sub-model and deploy that"):
        network.deploy(True)
    with torch.no_grad():
        for index in range(3):
            static = extract_module(network, index)
            expected = static(x)
            static.deploy(True)
            assert not any(isinstance(m, nn.BatchNorm2d) for m in static.modules())
            # one kernel instead of three and a norm: another order of float32 sums
            torch.testing.assert_close(static(x), expected, rtol=1e-4, atol=1e-5)
        plain.deploy(True)
        assert torch.equal(static(x), plain(x)), "the full model's fused form is FastReID's"
    with pytest.raises(InputError, match="only the training form has a converter"):
        Conversion(WIDTHS).convert_network(plain)
