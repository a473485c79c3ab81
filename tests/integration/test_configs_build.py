"""Every yml in the tree builds a model at its real size (without pretrained weights, on the CPU) that runs."""

from pathlib import Path

import pytest
import torch
from fastreid.modeling.meta_arch import build_model

from builders import images
from switchablecompat.config import load_config
from switchablecompat.modeling import extract_submodel

ROOT = Path(__file__).parents[2]
YAMLS = [str(p.relative_to(ROOT)) for p in sorted((ROOT / "configs").glob("*/*.yml")) if p.parent.name != "suites"]


@pytest.mark.parametrize("config_file", YAMLS)
def test_builds_and_runs(config_file):
    cfg = load_config(
        config_file, ["MODEL.DEVICE", "cpu", "MODEL.BACKBONE.PRETRAIN", "False", "MODEL.HEADS.NUM_CLASSES", "9"]
    )
    model = build_model(cfg).eval()
    x = images(2, *(side if side <= 64 else side // 4 for side in cfg.INPUT.SIZE_TEST))
    with torch.no_grad():
        for index in range(len(model.switch)):
            with model.switch.use(index):
                features = model({"images": x})
            assert features.shape == (2, cfg.MODEL.HEADS.EMBEDDING_DIM)
        smallest = extract_submodel(model, model.switch.widths[0])
    assert (
        sum(p.numel() for p in smallest.backbone.parameters()) < sum(p.numel() for p in model.backbone.parameters()) / 3
    )
