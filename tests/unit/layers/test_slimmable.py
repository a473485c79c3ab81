import pytest
import torch
import torch.nn.functional as F
from torch import nn

from switchablecompat.layers import ChannelLayout, ChannelRule, SlimmableConv2d, SlimmableLinear, WidthSwitch

WIDTHS = [0.25, 0.5, 1.0]
RULE = ChannelRule(WIDTHS, 1)


def make_conv(bias=True, **kwargs):
    plain = nn.Conv2d(8, 12, 3, stride=2, padding=1, bias=bias, **kwargs)
    switch = WidthSwitch(WIDTHS)
    return plain, SlimmableConv2d.convert(plain, switch, RULE.slim(8), RULE.slim(12)), switch


def test_conversion_shares_parameters_and_keys():
    plain, conv, _ = make_conv()
    assert conv.weight is plain.weight
    assert list(conv.state_dict()) == list(plain.state_dict())
    assert isinstance(conv, nn.Conv2d)


def test_full_width_is_the_plain_layer():
    plain, conv, _ = make_conv()
    x = torch.randn(2, 8, 6, 6)
    assert torch.equal(conv(x), plain(x))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("index", [0, 1])
def test_a_narrow_width_is_a_convolution_with_leading_channels(bias, index):
    plain, conv, switch = make_conv(bias)
    in_, out = (2, 4)[index], (3, 6)[index]
    x = torch.randn(2, in_, 6, 6)
    expected = F.conv2d(x, plain.weight[:out, :in_], plain.bias[:out] if bias else None, stride=2, padding=1)
    with switch.use(index):
        assert torch.equal(conv(x), expected)


def test_a_sub_models_gradient_is_zero_outside_its_slice():
    plain, conv, switch = make_conv()
    with switch.use(1):
        conv(torch.randn(2, 4, 6, 6)).square().sum().backward()
    inside = torch.zeros_like(plain.weight, dtype=torch.bool)
    inside[:6, :4] = True
    assert torch.equal(plain.weight.grad != 0, inside)
    assert torch.equal(plain.bias.grad != 0, torch.arange(12) < 6)


@pytest.mark.parametrize("index", [0, 1, 2])
def test_static_twin_is_plain_equal_and_independent(index):
    _, conv, switch = make_conv()
    static = conv.to_static(index)
    assert type(static) is nn.Conv2d
    assert not hasattr(static, "switch")
    assert (static.in_channels, static.out_channels) == ((2, 4, 8)[index], (3, 6, 12)[index])
    x = torch.randn(2, static.in_channels, 6, 6)
    with switch.use(index):
        assert torch.equal(static(x), conv(x))
    assert static.weight.untyped_storage().data_ptr() != conv.weight.untyped_storage().data_ptr()
    assert static.weight.untyped_storage().nbytes() == static.weight.numel() * 4


def test_segments_of_an_axis_are_taken_apart():
    plain = nn.Conv2d(4, 3, 1)
    layout = ChannelLayout((2, 2), ((1, 1), (2, 2)))
    switch = WidthSwitch([0.5, 1.0])
    conv = SlimmableConv2d.convert(plain, switch, layout, ChannelRule([0.5, 1.0], 1).fixed(3))
    x = torch.randn(1, 2, 5, 5)
    with switch.use(0):
        assert torch.equal(conv(x), F.conv2d(x, plain.weight[:, [0, 2]], plain.bias))


@pytest.mark.parametrize("index", [0, 1, 2])
def test_linear(index):
    plain = nn.Linear(8, 12)
    switch = WidthSwitch(WIDTHS)
    linear = SlimmableLinear.convert(plain, switch, RULE.slim(8), RULE.slim(12))
    in_, out = (2, 4, 8)[index], (3, 6, 12)[index]
    x = torch.randn(5, in_)
    with switch.use(index):
        assert torch.equal(linear(x), F.linear(x, plain.weight[:out, :in_], plain.bias[:out]))
        static = linear.to_static(index)
        assert type(static) is nn.Linear
        assert (static.in_features, static.out_features) == (in_, out)
        assert torch.equal(static(x), linear(x))
