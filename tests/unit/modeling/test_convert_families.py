"""Every family of FastReID's backbones, by the same oracles.

Full width: FastReID's own network with the same weights. A sub-model: FastReID's own network in which the channels that
the sub-model does not own are silenced, so that a mismatch of channels anywhere in it shows. Its gradients: those of
the extracted sub-model, an ordinary network.
"""

import copy
from dataclasses import dataclass
from urllib.error import URLError

import pytest
import torch
from fastreid.config import get_cfg
from fastreid.modeling.backbones import BACKBONE_REGISTRY, repvgg, resnest, resnext
from torch import nn

from builders import images, randomise, tiny_config, tiny_model
from switchablecompat.errors import InputError
from switchablecompat.layers import SlimmableConv2d, SwitchableNorm, WidthSwitch, shared_parameters
from switchablecompat.modeling import Conversion, build_switchable_backbone, extract_submodel
from switchablecompat.modeling.convert import extract_module

WIDTHS = [0.25, 0.75, 1.0]
INDICES = range(len(WIDTHS))


def built(name, depth, **backbone):
    cfg = get_cfg()
    cfg.MODEL.BACKBONE.merge_from_other_cfg(type(cfg)({"DEPTH": depth, "PRETRAIN": False, **backbone}))
    return BACKBONE_REGISTRY.get(f"build_{name}_backbone")(cfg)


# As FastReID builds them; of ResNeXt, ResNeSt and grouped RepVGGs it has large ones only: fewer blocks of the same.
FAMILIES = {
    "resnext": lambda: resnext.ResNeXt(1, "BN", False, False, resnext.Bottleneck, [1, 1, 1, 1], [0, 0, 0, 0]),
    "resnext-ibn-nl": lambda: resnext.ResNeXt(2, "BN", True, True, resnext.Bottleneck, [1, 1, 1, 1], [0, 1, 1, 0]),
    "resnest": lambda: resnest.ResNeSt(
        1, resnest.Bottleneck, [1, 1, 1, 1], radix=2, deep_stem=True, stem_width=32, avg_down=True, avd=True
    ),
    "osnet": lambda: built("osnet", "x0_25"),
    "osnet-ibn": lambda: built("osnet", "x0_25", WITH_IBN=True),
    "mobilenetv2": lambda: built("mobilenetv2", "0.25x"),
    "mobilenetv3": lambda: built("mobilenetv3", "Small"),
    "shufflenetv2": lambda: built("shufflenetv2", "1.0x"),
    "regnetx": lambda: built("regnet", "200x"),
    "regnety": lambda: built("regnet", "400y"),
    "effnet": lambda: built("effnet", "b0"),
    "repvgg": lambda: built("repvgg", "A0"),
    "repvgg-g4": lambda: repvgg.RepVGG(1, "BN", [1, 2, 2, 1], [0.5, 0.5, 0.5, 0.5], repvgg.g4_map),
}


@dataclass
class Family:
    plain: nn.Module
    network: nn.Module
    x: torch.Tensor


@pytest.fixture(scope="module", params=FAMILIES)
def family(request):
    torch.manual_seed(0)
    plain = FAMILIES[request.param]()
    randomise(plain)
    network, layout = Conversion(WIDTHS, 8).convert_network(copy.deepcopy(plain))
    assert layout is network.out_layout
    return Family(plain, network, images(4, 64, 32) / 255)


def test_full_width_is_fastreids_network_bit_for_bit(family):
    family.plain.eval(), family.network.eval()
    with torch.no_grad():
        assert torch.equal(family.network(family.x), family.plain(family.x))
    plain, network = copy.deepcopy(family.plain).train(), copy.deepcopy(family.network).train()
    outputs = [model(family.x) for model in (network, plain)]
    assert torch.equal(*outputs)
    for name, buffer in plain.named_buffers():
        assert torch.equal(buffer, network.get_buffer(name)), name
    for output in outputs:
        output.square().mean().backward()
    expected = {name: p.grad for name, p in plain.named_parameters()}
    for name, parameter in network.named_parameters():
        if ".narrow." in name:
            assert parameter.grad is None, f"{name}: another width's"
        else:
            assert torch.equal(parameter.grad, expected.pop(name)), name
    assert not expected


def test_an_ordinary_checkpoint_loads(family):
    result = copy.deepcopy(family.network).load_state_dict(family.plain.state_dict(), strict=False)
    assert result.missing_keys == result.unexpected_keys == []


@pytest.mark.parametrize("index", INDICES)
def test_an_extracted_sub_model_is_plain_and_equal_bit_for_bit(family, index):
    family.network.eval()
    static = extract_module(family.network, index)
    again, _ = Conversion(switch=WidthSwitch.single(WIDTHS[index])).convert_network(copy.deepcopy(static))
    with torch.no_grad(), family.network.switch.use(index):
        expected = family.network(family.x)
        assert expected.shape[1] == family.network.out_layout.count(index)
        assert torch.equal(static(family.x), expected)
        assert torch.equal(again(family.x), expected), "the sub-model trained on its own (ONLY_WIDTH)"
    assert not any("witchable" in type(m).__name__ or "Slimmable" in type(m).__name__ for m in static.modules())
    if index == INDICES[-1]:
        assert [type(m) for m in static.modules() if not isinstance(m, nn.modules.batchnorm._NormBase)] == [
            type(m) for m in family.plain.modules() if not isinstance(m, nn.modules.batchnorm._NormBase)
        ]


@torch.no_grad()
def silenced(family, index):
    """FastReID's network without the channels that are not sub-model ``index``'s: no weight into them, no bias."""
    plain = copy.deepcopy(family.plain)
    for name, module in family.network.named_modules():
        if isinstance(module, SlimmableConv2d | SwitchableNorm) and ".narrow." not in name:
            layout = module.out_layout if isinstance(module, SlimmableConv2d) else module.layout
            for parameter in plain.get_submodule(name).parameters(recurse=False):
                parameter[layout.owner() > index] = 0
    return plain


@pytest.mark.parametrize("index", INDICES[:-1])
def test_a_sub_model_is_the_full_network_without_the_other_channels(family, index):
    network, x = copy.deepcopy(family.network).double().eval(), images(4, 32, 16).double() / 255
    expected = silenced(family, index).double().eval()(x)
    mine = network.out_layout.owner() <= index
    with network.switch.use(index):
        # float64, of which 15 digits count; the sums have the same terms in another order, and many layers
        torch.testing.assert_close(network(x), expected[:, mine], rtol=1e-9, atol=1e-9)
    assert not expected[:, ~mine].any()
    assert expected[:, mine].abs().amax(dim=(0, 2, 3)).gt(0).float().mean() > 0.2, "the comparison must say something"


@pytest.mark.parametrize("index", INDICES[:-1])
def test_a_narrow_width_trains_exactly_its_parameters(family, index):
    network, x = copy.deepcopy(family.network).double().train(), images(4, 32, 16).double() / 255
    static = extract_module(network, index)
    with network.switch.use(index):
        network(x).square().mean().backward()
    static(x).square().mean().backward()
    expected = {name: p.grad for name, p in static.named_parameters()}
    shells = {p.name: p.shells for p in shared_parameters(network)}
    narrow = f".narrow.{network.switch.names[index]}"
    reached = set()
    for name, parameter in network.named_parameters():
        if name in shells:
            owned = torch.ones_like(parameter, dtype=torch.bool) if shells[name] is None else shells[name] <= index
            assert not parameter.grad[~owned].any(), f"{name}: a foreign element is reached"
            # rows and columns keep their order when some are left out
            found = parameter.grad[owned].view_as(expected[name])
        elif narrow in name:
            name, found = name.replace(narrow, ""), parameter.grad
        else:
            assert parameter.grad is None, f"{name}: another width's"
            continue
        assert found.isfinite().all()
        torch.testing.assert_close(found, expected[name], rtol=1e-7, atol=1e-10)
        reached.add(name)
    assert reached == set(expected)
    assert sum(bool(grad.any()) for grad in expected.values()) > 0.9 * len(expected), (
        "the comparison must say something"
    )


@pytest.mark.parametrize(
    ("builder", "depth", "channels"), [("shufflenetv2", "0.5x", 1024), ("regnet", "200y", 368), ("repvgg", "A0", 1280)]
)
def test_a_whole_model_of_the_family_is_extracted(builder, depth, channels):
    model = tiny_model(
        "MODEL.SWITCHABLE.BACKBONE", f"build_{builder}_backbone", "MODEL.BACKBONE.DEPTH", depth,
        "MODEL.BACKBONE.FEAT_DIM", channels, "MODEL.SWITCHABLE.CHANNEL_DIVISOR", 8,
    ).eval()  # fmt: skip
    x = images(2, 64, 32)
    with torch.no_grad():
        for index, width in enumerate(model.switch.widths):
            static = extract_submodel(model, width).eval()
            with model.switch.use(index):
                expected = model(x)
            assert expected.shape == (2, 128)
            assert torch.equal(static(x.clone()), expected)


@pytest.mark.parametrize(
    ("builder", "overrides", "message"),
    [
        ("resnext", ("DEPTH", "152x"), "MODEL.BACKBONE.DEPTH: unknown to build_resnext_backbone, found 152x"),
        ("shufflenetv2", ("DEPTH", "50x"), "MODEL.BACKBONE.DEPTH: unknown to build_shufflenetv2_backbone"),
        ("mobilenetv3", ("DEPTH", "50x"), "MODEL.BACKBONE.DEPTH: unknown to build_mobilenetv3_backbone"),
        ("regnet", ("DEPTH", "200x"), "MODEL.BACKBONE.FEAT_DIM: must be 368, found 128"),
        ("mobilenetv2", ("DEPTH", "1.0x", "PRETRAIN", True), "MODEL.BACKBONE.PRETRAIN_PATH: must be an existing file"),
        (
            "shufflenetv2",
            ("DEPTH", "0.5x", "PRETRAIN", True, "PRETRAIN_PATH", "WEIGHTS"),
            "must hold the tensors of this backbone, such as first_conv.0.weight, .* found no tensors",
        ),
        ("resnest", ("DEPTH", "50x", "PRETRAIN", True), "MODEL.BACKBONE.PRETRAIN_PATH: set it to a local file"),
    ],
)
def test_what_a_builder_does_not_understand_is_one_line(builder, overrides, message, tmp_path, monkeypatch):
    def no_network(*args, **kwargs):
        raise URLError("Name or service not known")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", no_network)
    torch.save({"model": {}}, tmp_path / "weights.pth")
    keys = [f"MODEL.BACKBONE.{o}" if i % 2 == 0 else o for i, o in enumerate(overrides)]
    keys = [str(tmp_path / "weights.pth") if o == "WEIGHTS" else o for o in keys]
    cfg = tiny_config("MODEL.SWITCHABLE.BACKBONE", f"build_{builder}_backbone", *keys)
    with pytest.raises(InputError, match=message):
        build_switchable_backbone(cfg)
