"""Oracle of the conversion: FastReID's own network with the same weights, and hand-sliced layers."""

import copy

import pytest
import torch
from fastreid.modeling.backbones import BACKBONE_REGISTRY

from builders import images, randomise, tiny_config
from switchablecompat.modeling import Conversion
from switchablecompat.modeling.convert import extract_module

# depth, IBN, SE, non-local, last stride
FAMILY = [
    ("18x", False, False, False, 1),
    ("18x", True, True, False, 2),
    ("34x", False, True, False, 2),
    ("34x", True, False, False, 1),
    ("50x", False, False, False, 2),
    ("50x", True, True, True, 1),
    ("101x", True, False, True, 2),
    ("101x", False, True, False, 1),
]


def plain_resnet(depth, ibn, se, nl, last_stride):
    cfg = tiny_config(
        "MODEL.BACKBONE.DEPTH", depth, "MODEL.BACKBONE.WITH_IBN", ibn, "MODEL.BACKBONE.WITH_SE", se,
        "MODEL.BACKBONE.WITH_NL", nl, "MODEL.BACKBONE.LAST_STRIDE", last_stride,
    )  # fmt: skip
    network = BACKBONE_REGISTRY.get("build_resnet_backbone")(cfg)
    randomise(network)
    return network


@pytest.mark.parametrize("variant", FAMILY, ids=lambda v: "-".join(map(str, v)))
def test_resnet_family(variant):
    plain = plain_resnet(*variant)
    network, layout = Conversion([0.25, 0.5, 0.75, 1.0], 8).convert_network(copy.deepcopy(plain))
    assert layout.total == (512 if variant[0] in ("18x", "34x") else 2048)
    x = images(2, 64, 32) / 255
    plain.eval(), network.eval()
    with torch.no_grad():
        assert torch.equal(network(x), plain(x)), "full width must be FastReID's network bit for bit"
        for index in range(4):
            static = extract_module(network, index)
            with network.switch.use(index):
                expected = network(x)
            assert expected.shape[1] == layout.count(index)
            assert torch.equal(static(x), expected), "an extracted sub-model must be equal bit for bit"
            assert not hasattr(static, "switch")
            assert not any("witchable" in type(m).__name__ or "Slimmable" in type(m).__name__ for m in static.modules())

    # one training step's worth: every width runs forward and backward, and train-mode full width is equal too
    plain.train(), network.train()
    assert torch.equal(network(x), plain(x))
    for index in range(4):
        with network.switch.use(index):
            network(x).square().mean().backward()
    assert all(p.grad is not None for p in network.parameters())


@pytest.mark.parametrize("variant", [FAMILY[1], FAMILY[5]], ids=lambda v: "-".join(map(str, v)))
def test_an_ordinary_checkpoint_loads_and_every_width_starts_from_its_leading_channels(variant):
    plain, other = plain_resnet(*variant), plain_resnet(*variant)
    network, _ = Conversion([0.5, 1.0]).convert_network(copy.deepcopy(other))
    result = network.load_state_dict(plain.state_dict(), strict=False)
    assert result.missing_keys == result.unexpected_keys == []
    expected, _ = Conversion([0.5, 1.0]).convert_network(copy.deepcopy(plain))
    x = images(2, 64, 32) / 255
    network.eval(), expected.eval(), plain.eval()
    with torch.no_grad():
        assert torch.equal(network(x), plain(x))
        with network.switch.use(0), expected.switch.use(0):
            assert torch.equal(network(x), expected(x))


def test_ibn_channels_stay_instance_or_batch_normalised():
    plain = plain_resnet("18x", True, False, False, 1)
    network, _ = Conversion([0.5, 1.0]).convert_network(copy.deepcopy(plain))
    block, reference = network.layer1[0], plain.layer1[0]
    kept = [*range(16), *range(32, 48)]  # 64 channels at width 0.5: the leading 16 of each half
    x = torch.randn(2, 32, 8, 8)
    weight = reference.conv1.weight[kept][:, :32]
    network.eval()
    with network.switch.use(0), torch.no_grad():
        middle = torch.nn.functional.conv2d(x, weight, padding=1)
        assert torch.equal(block.conv1(x), middle)
        normalised = block.bn1(middle)
        torch.testing.assert_close(
            normalised[:, :16], torch.nn.functional.instance_norm(
                middle[:, :16], weight=reference.bn1.IN.weight[:16], bias=reference.bn1.IN.bias[:16]
            ),
        )  # fmt: skip
        bn = reference.bn1.BN
        torch.testing.assert_close(
            normalised[:, 16:], torch.nn.functional.batch_norm(
                middle[:, 16:], bn.running_mean[:16], bn.running_var[:16], bn.weight[:16], bn.bias[:16]
            ),
        )  # fmt: skip
        assert torch.equal(
            block.conv2(normalised),
            torch.nn.functional.conv2d(normalised, reference.conv2.weight[:32][:, kept], padding=1),
        )


def test_non_local_slices_all_four_projections():
    plain = plain_resnet("50x", False, False, True, 2)
    network, _ = Conversion([0.5, 1.0]).convert_network(copy.deepcopy(plain))
    with network.switch.use(0):
        module, reference = network.NL_2[0], plain.NL_2[0]
        assert torch.equal(module.g._weight(0), reference.g.weight[:, :256])
        assert torch.equal(module.theta._weight(0), reference.theta.weight[:, :256])
        assert torch.equal(module.phi._weight(0), reference.phi.weight[:, :256])
        assert torch.equal(module.W[0]._weight(0), reference.W[0].weight[:256])
