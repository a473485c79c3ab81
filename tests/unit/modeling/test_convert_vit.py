"""Oracle of the vision transformer's conversion: FastReID's own one with fewer heads and weights sliced by hand."""

import copy

import pytest
import torch
from fastreid.modeling.backbones.vision_transformer import Attention, VisionTransformer
from torch import nn

from switchablecompat.errors import InputError
from switchablecompat.layers import WidthSwitch, shared_parameters
from switchablecompat.modeling import Conversion
from switchablecompat.modeling.convert import extract_module

WIDTHS, HEADS, HEAD = [0.25, 0.5, 1.0], (1, 2, 4), 8


def transformer(heads, **options):
    return VisionTransformer(
        img_size=(64, 32), embed_dim=heads * HEAD, depth=2, num_heads=heads, mlp_ratio=3.0, qkv_bias=True, **options
    )


@pytest.fixture
def pair():
    plain = transformer(4)
    with torch.no_grad():
        for parameter in plain.parameters():
            parameter.normal_(0, 0.3)
    network, layout = Conversion(WIDTHS, 8).convert_network(copy.deepcopy(plain))
    assert [layout.count(index) for index in range(3)] == [8, 16, 32]
    return plain, network


def sliced(plain, heads):
    """The state of a transformer with the leading heads."""
    kept, full = heads * HEAD, 4 * HEAD
    state = {}
    for name, tensor in plain.state_dict().items():
        if ".qkv." in name:
            tensor = torch.cat([part[:kept] for part in tensor.split(full)])
        elif name in ("cls_token", "pos_embed"):
            tensor = tensor[..., :kept]
        elif ".fc1." in name:
            tensor = tensor[: 3 * kept]
        else:
            tensor = tensor[:kept]
        if tensor.dim() == 2:
            tensor = tensor[:, : 3 * kept if ".fc2." in name else kept]
        state[name] = tensor
    return state


@pytest.mark.parametrize("index", range(3))
def test_a_sub_model_is_fastreids_transformer_with_fewer_heads(pair, index):
    plain, network = pair
    expected = transformer(HEADS[index])
    expected.load_state_dict(sliced(plain, HEADS[index]))
    x = torch.randn(3, 3, 64, 32)
    plain.eval(), network.eval(), expected.eval()
    static = extract_module(network, index)
    again, _ = Conversion(switch=WidthSwitch.single(WIDTHS[index])).convert_network(copy.deepcopy(static))
    with torch.no_grad(), network.switch.use(index):
        assert torch.equal(network(x), expected(x))
        assert torch.equal(static(x), expected(x))
        assert torch.equal(again(x), expected(x))
    assert [type(m) for m in static.modules()] == [type(m) for m in plain.modules()]
    assert {n: p.shape for n, p in static.named_parameters()} == {n: p.shape for n, p in expected.named_parameters()}
    network.train(), expected.train()
    with network.switch.use(index):
        assert torch.equal(network(x), expected(x))


@pytest.mark.parametrize("index", range(3))
def test_each_width_trains_exactly_its_parameters(pair, index):
    _, network = pair
    static = extract_module(network, index)
    x = torch.randn(3, 3, 64, 32)
    with network.switch.use(index):
        network(x).square().mean().backward()
    static(x).square().mean().backward()
    expected = {name: p.grad for name, p in static.named_parameters()}
    parameters = dict(network.named_parameters())
    shells = {p.name: p.shells for p in shared_parameters(network)}
    for name, shell in shells.items():
        grad = parameters[name].grad
        assert not grad[shell > index].any()
        # float32 sums of a non-contiguous and a contiguous matrix
        torch.testing.assert_close(grad[shell <= index].view_as(expected[name]), expected[name], rtol=1e-4, atol=1e-6)
        assert expected[name].any()
    own = f".narrow.{network.switch.names[index]}" if index < 2 else ""
    private = {name for name, p in parameters.items() if name not in shells and p.grad is not None}
    assert {name.replace(own, "") for name in private} == set(expected) - set(shells)


def test_stochastic_depth_is_drawn_alike():
    plain = transformer(4, drop_rate=0.2, attn_drop_rate=0.2, drop_path_rate=0.5)
    network, _ = Conversion(WIDTHS, 8).convert_network(copy.deepcopy(plain))
    x = torch.randn(3, 3, 64, 32)
    outputs = []
    for model in (plain, network):
        torch.manual_seed(1)
        outputs.append(model.train()(x))
    assert torch.equal(*outputs)


def test_an_ordinary_checkpoint_loads(pair):
    plain, network = pair
    other, _ = Conversion(WIDTHS, 8).convert_network(transformer(4))
    result = other.load_state_dict(plain.state_dict(), strict=False)
    assert result.missing_keys == result.unexpected_keys == []
    x = torch.randn(1, 3, 64, 32)
    with torch.no_grad(), other.switch.use(0), network.switch.use(0):
        assert torch.equal(other(x), network(x))


def test_camera_embeddings_are_refused_by_name():
    with pytest.raises(InputError, match="camera embeddings have no converter, found 6 cameras"):
        Conversion(WIDTHS).convert_network(transformer(4, camera=6))


def test_heads_that_a_width_would_cut_are_refused():
    network = nn.Sequential(nn.Linear(3, 24), Attention(24, num_heads=2))
    with pytest.raises(InputError, match="needs an input of whole heads of 12 channels at every width"):
        Conversion([0.25, 1.0], 8).convert_network(network)


def test_layer_norms_have_private_parameters_per_width():
    network, _ = Conversion([0.5, 1.0], 8).convert_network(nn.Sequential(nn.Linear(3, 16), nn.LayerNorm(16)))
    norm = network[1]
    with torch.no_grad():
        norm.narrow["w050"].weight.fill_(2.0)
    x = torch.randn(4, 8)
    with network.switch.use(0):
        torch.testing.assert_close(norm(x), 2 * torch.nn.functional.layer_norm(x, (8,)))
    assert norm.weight.shape == (16,)
    static = extract_module(network, 0)[1]
    assert type(static) is nn.LayerNorm
    assert static.normalized_shape == (8,)
