"""docs/backbones.md tells the truth: its block converts as it says, its config builds."""

import re
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
import yaml
from fastreid.modeling.backbones import BACKBONE_REGISTRY

from builders import images, tiny_config, tiny_model
from switchablecompat.modeling import build_switchable_backbone, convert, extract_submodel

PAGE = (Path(__file__).parents[2] / "docs" / "backbones.md").read_text()


def block(language):
    (code,) = re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    return code


@pytest.fixture
def names(monkeypatch):
    monkeypatch.setattr(convert, "_CONVERTERS", dict(convert._CONVERTERS))
    monkeypatch.setattr(BACKBONE_REGISTRY, "_obj_map", dict(BACKBONE_REGISTRY._obj_map))
    names: dict = {}
    exec(compile(block("python"), "backbones.md", "exec"), names)
    return names


def test_the_example_is_short():
    code = [line for line in block("python").splitlines() if line.strip() and not line.startswith(("import", "from"))]
    assert len(code) < 30


def test_the_block_of_ones_own_is_a_backbone(names):
    overrides = ("MODEL.SWITCHABLE.BACKBONE", "build_ghost_backbone", "MODEL.BACKBONE.FEAT_DIM", 128)
    model = tiny_model(*overrides).eval()
    x = images(2, 64, 32)
    with torch.no_grad():
        for index, width in enumerate(model.switch.widths):
            with model.switch.use(index):
                assert torch.equal(extract_submodel(model, width)(x.clone()), model(x))


def test_its_conversion_is_the_leading_channels_of_both_branches(names):
    model = tiny_model("MODEL.SWITCHABLE.BACKBONE", "build_ghost_backbone", "MODEL.BACKBONE.FEAT_DIM", 128).eval()
    ghost = model.backbone[1]
    conv, _, _ = ghost.main
    cheap, _, _ = ghost.cheap
    norms = [branch[1].narrow["w025"] for branch in (ghost.main, ghost.cheap)]
    x = torch.randn(2, 8, 5, 5)  # a quarter of 32 channels in, a quarter of 32 out of each branch

    def normalised(y, norm):
        return F.relu(F.batch_norm(y, norm.running_mean, norm.running_var, norm.weight, norm.bias))

    with torch.no_grad(), model.switch.use(0):
        main = normalised(F.conv2d(x, conv.weight[:8, :8], conv.bias[:8]), norms[0])
        half = normalised(F.conv2d(main, cheap.weight[:8], cheap.bias[:8], padding=1, groups=8), norms[1])
        torch.testing.assert_close(ghost(x), torch.cat((main, half), 1))


def test_the_config_builds():
    flat = {
        f"MODEL.{node}.{key}": value
        for node, keys in yaml.safe_load(block("yaml"))["MODEL"].items()
        for key, value in keys.items()
    }
    network = build_switchable_backbone(tiny_config(*(item for pair in flat.items() for item in pair)))
    assert network.out_layout.total == flat["MODEL.BACKBONE.FEAT_DIM"]
    assert type(network).__name__ == "RegNet"
