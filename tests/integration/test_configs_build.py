"""Every yml in the tree builds a model at its real size (without pretrained weights, on the CPU) that runs."""

from pathlib import Path

import pytest
import torch
from fastreid.modeling.meta_arch import build_model

from builders import images, reference_files
from switchablecompat.config import load_config
from switchablecompat.modeling import extract_submodel

ROOT = Path(__file__).parents[2]
YAMLS = [str(p.relative_to(ROOT)) for p in sorted((ROOT / "configs").glob("*/*.yml")) if p.parent.name != "suites"]
CLASSES = ("MODEL.HEADS.NUM_CLASSES", "9")


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """A tiny reference for features of a dimension: any backbone fits that has it."""

    def make(dimension):
        folder = tmp_path_factory.mktemp("reference")
        return reference_files(folder, *CLASSES, "MODEL.HEADS.EMBEDDING_DIM", dimension)[1]

    made = {}
    return lambda dimension: made.get(dimension) or made.setdefault(dimension, make(dimension))


@pytest.mark.parametrize("config_file", YAMLS)
def test_builds_and_runs(config_file, reference):
    opts = ["MODEL.DEVICE", "cpu", "MODEL.BACKBONE.PRETRAIN", "False", *CLASSES]
    cfg = load_config(config_file, opts)
    with_reference = bool(cfg.MODEL.REFERENCE.WEIGHTS)
    if with_reference:
        cfg = load_config(config_file, [*opts, *reference(cfg.MODEL.HEADS.EMBEDDING_DIM)])
    model = build_model(cfg).eval()
    x = images(2, *(side if side <= 64 else side // 4 for side in cfg.INPUT.SIZE_TEST))
    with torch.no_grad():
        for index in range(len(model.switch)):
            with model.switch.use(index):
                features = model({"images": x})
            assert features.shape == (2, cfg.MODEL.HEADS.EMBEDDING_DIM)
        smallest = extract_submodel(model, model.switch.widths[0])
    size, whole = (sum(p.numel() for p in m.backbone.parameters()) for m in (smallest, model))
    if cfg.MODEL.SWITCHABLE.ONLY_WIDTH:
        assert model.switch.widths == (cfg.MODEL.SWITCHABLE.ONLY_WIDTH,)
        assert size == whole
    else:
        assert size < whole / 3
    if with_reference:
        model.train().prepare_training()
        losses = model({"images": x, "targets": torch.tensor([0, 8])})
        assert all(torch.isfinite(loss) for loss in losses.values())
        assert any(key.startswith(("loss_influence", "loss_asymmetric")) for key in losses)
