import pytest
import torch
from torch import nn

from switchablecompat.layers import (
    ChannelRule,
    SwitchableBatchNorm2d,
    SwitchableInstanceNorm2d,
    SwitchableLayerNorm,
    WidthSwitch,
    running_norms,
)

WIDTHS = [0.25, 0.5, 1.0]


def random_bn(channels=8):
    bn = nn.BatchNorm2d(channels)
    with torch.no_grad():
        for tensor in (bn.weight, bn.bias, bn.running_mean):
            tensor.normal_()
        bn.running_var.uniform_(0.5, 2)
    return bn


def make(channels=8):
    plain, switch = random_bn(channels), WidthSwitch(WIDTHS)
    return plain, SwitchableBatchNorm2d.convert(plain, switch, ChannelRule(WIDTHS, 1).slim(channels)), switch


def test_keys_full_width_plain_others_below_narrow():
    _, norm, _ = make()
    own = ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"]
    assert set(norm.state_dict()) == {*own, *(f"narrow.{w}.{key}" for w in ("w025", "w050") for key in own)}


@pytest.mark.parametrize("loaded", [False, True])
@pytest.mark.parametrize(
    "make_plain", [random_bn, lambda channels=8: nn.InstanceNorm2d(channels, affine=True), nn.LayerNorm]
)
def test_fresh_norms_start_where_torch_starts_them_and_the_full_model_does_not(make_plain, loaded):
    plain = make_plain(8)
    with torch.no_grad():
        plain.weight.normal_(), plain.bias.normal_()
    twin = {nn.BatchNorm2d: SwitchableBatchNorm2d, nn.InstanceNorm2d: SwitchableInstanceNorm2d}
    kind = twin.get(type(plain), SwitchableLayerNorm)
    norm = kind.convert(plain, WidthSwitch(WIDTHS), ChannelRule(WIDTHS, 1).slim(8), fresh=True)
    if loaded:  # an ordinary checkpoint, into norms that have been trained
        with torch.no_grad():
            for parameter in norm.parameters():
                parameter.normal_()
        norm.load_state_dict(plain.state_dict(), strict=True)
    assert torch.equal(norm.weight, plain.weight)
    expected = type(plain)(4, **({"affine": True} if isinstance(plain, nn.InstanceNorm2d) else {})).state_dict()
    own = norm.of(1).state_dict()
    assert own.keys() == expected.keys()
    assert all(torch.equal(own[key], value) for key, value in expected.items())
    assert set(vars(norm.to_static(2))) == set(vars(type(plain)(8)))


def test_a_checkpoint_with_narrow_norms_fills_fresh_ones_too():
    _, source, switch = make()
    norm = SwitchableBatchNorm2d.convert(nn.BatchNorm2d(8), switch, ChannelRule(WIDTHS, 1).slim(8), fresh=True)
    norm.load_state_dict(source.state_dict(), strict=True)
    assert torch.equal(norm.of(0).running_mean, source.of(0).running_mean)


@pytest.mark.parametrize("mode", [True, False])
@pytest.mark.parametrize("index", [0, 1, 2])
def test_each_width_equals_an_ordinary_bn_of_its_size(index, mode):
    plain, norm, switch = make()
    count = (2, 4, 8)[index]
    own = nn.BatchNorm2d(count)
    with torch.no_grad():
        for key in ("weight", "bias", "running_mean", "running_var"):
            getattr(own, key).copy_(getattr(plain, key)[:count])
    x = torch.randn(4, count, 3, 3)
    norm.train(mode), own.train(mode)
    with switch.use(index):
        assert torch.equal(norm(x), own(x))
    assert torch.equal(norm.of(index).running_mean, own.running_mean)
    assert torch.equal(norm.of(index).running_var, own.running_var)


def test_training_one_width_leaves_the_statistics_of_the_others():
    _, norm, switch = make()
    before = {key: value.clone() for key, value in norm.state_dict().items()}
    norm.train()
    with switch.use(1):
        norm(torch.randn(4, 4, 3, 3))
    changed = {key for key, value in norm.state_dict().items() if not torch.equal(value, before[key])}
    assert changed == {f"narrow.w050.{key}" for key in ("running_mean", "running_var", "num_batches_tracked")}


def test_an_ordinary_checkpoint_fills_every_width_with_its_leading_channels():
    _, norm, _ = make()
    ordinary = random_bn()
    result = norm.load_state_dict(ordinary.state_dict(), strict=False)
    assert result.missing_keys == result.unexpected_keys == []
    for index, count in enumerate((2, 4, 8)):
        for key in ("weight", "bias", "running_mean", "running_var"):
            assert torch.equal(getattr(norm.of(index), key), getattr(ordinary, key)[:count])


def test_its_own_checkpoint_restores_private_values():
    _, norm, switch = make()
    norm.train()
    with switch.use(0):
        norm(torch.randn(4, 2, 3, 3))
    _, other, _ = make()
    other.load_state_dict(norm.state_dict())
    for key, value in norm.state_dict().items():
        assert torch.equal(other.state_dict()[key], value)


def test_a_checkpoint_of_other_channel_counts_fills_widths_with_leading_channels():
    _, norm, _ = make()
    ordinary = random_bn()
    fitting = {"narrow.w025.num_batches_tracked": torch.tensor(3), "narrow.w050.num_batches_tracked": torch.tensor(3)}
    norm.load_state_dict({**ordinary.state_dict(), **fitting}, strict=False)  # tensors of other shapes are left out
    for index, count in enumerate((2, 4)):
        assert torch.equal(norm.of(index).weight, ordinary.weight[:count])
        assert torch.equal(norm.of(index).running_mean, ordinary.running_mean[:count])


def test_a_checkpoint_of_other_widths_fills_the_missing_ones():
    ordinary = random_bn()
    other = SwitchableBatchNorm2d.convert(ordinary, WidthSwitch([0.5, 1.0]), ChannelRule([0.5, 1.0], 1).slim(8))
    other.narrow["w050"].weight.data.fill_(7.0)
    _, norm, _ = make()
    norm.load_state_dict(other.state_dict(), strict=False)
    assert torch.equal(norm.narrow["w050"].weight, torch.full((4,), 7.0))
    assert torch.equal(norm.narrow["w025"].weight, ordinary.weight[:2])


def test_frozen_bias_is_frozen_at_every_width():
    plain = random_bn()
    plain.bias.requires_grad_(False)
    norm = SwitchableBatchNorm2d.convert(plain, WidthSwitch(WIDTHS), ChannelRule(WIDTHS, 1).slim(8))
    assert [name for name, p in norm.named_parameters() if p.requires_grad] == [
        "weight",
        "narrow.w025.weight",
        "narrow.w050.weight",
    ]


@pytest.mark.parametrize("index", [0, 1, 2])
def test_static_twin(index):
    _, norm, switch = make()
    static = norm.to_static(index)
    assert type(static) is nn.BatchNorm2d
    assert static.num_features == (2, 4, 8)[index]
    assert "narrow" not in dict(static.named_modules())
    x = torch.randn(4, static.num_features, 3, 3)
    norm.eval(), static.eval()
    with switch.use(index):
        assert torch.equal(static(x), norm(x))
    static.weight.data.zero_()
    assert norm.of(index).weight.abs().sum() > 0


def test_instance_norm_has_private_affine_parameters():
    plain = nn.InstanceNorm2d(8, affine=True)
    switch = WidthSwitch(WIDTHS)
    norm = SwitchableInstanceNorm2d.convert(plain, switch, ChannelRule(WIDTHS, 1).slim(8))
    x = torch.randn(2, 4, 5, 5)
    norm.narrow["w050"].weight.data.fill_(3.0)
    with switch.use(1):
        torch.testing.assert_close(norm(x), 3 * nn.InstanceNorm2d(4)(x))
    assert torch.equal(norm.weight, torch.ones(8))


def test_running_norms_are_those_of_one_width():
    _, norm, _ = make()
    assert running_norms(nn.Sequential(norm), 1) == [norm.narrow["w050"]]
    assert running_norms(nn.Sequential(norm), 2) == [norm]


def test_norms_without_statistics_are_no_running_norms():
    _, norm, switch = make()
    plain = nn.BatchNorm2d(8, track_running_stats=False)
    without = SwitchableBatchNorm2d.convert(plain, switch, norm.layout)
    assert running_norms(nn.Sequential(without, norm), 0) == [norm.narrow["w025"]]
