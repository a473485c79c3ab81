"""A trained run on disk, pictures, and what is exported from it; made once."""

from types import SimpleNamespace

import pytest
import torch

from builders import R18, calibrated_run, tiny_config, write_pictures
from switchablecompat.deploy.files.export import export_submodel
from switchablecompat.deploy.files.parity import parity_images
from switchablecompat.modeling.opened import open_model


def trained_run(folder, pictures, *opts, **kwargs):
    """``model`` (switchable), the ``run`` that its files are, and 8 ``images`` that it tells apart."""
    torch.manual_seed(0)
    cfg = tiny_config(*opts, **kwargs)
    images, _ = parity_images(cfg, str(pictures))
    model = calibrated_run(folder, images, *opts, **kwargs)
    run = open_model(str(folder / "model_final.pth"), str(folder / "config.yaml"))
    return SimpleNamespace(model=model, run=run, images=images)


@pytest.fixture(scope="session")
def pictures(tmp_path_factory):
    """A folder of nine pictures of different people."""
    folder = tmp_path_factory.mktemp("pictures")
    write_pictures(folder, tmp_path_factory.mktemp("datasets"))
    return folder


@pytest.fixture(scope="session")
def tiny(tmp_path_factory, pictures):
    """The thin ResNet."""
    return trained_run(tmp_path_factory.mktemp("run"), pictures, "MODEL.SWITCHABLE.WIDTHS", "[0.25, 1.0]")


@pytest.fixture(scope="session")
def resnet(tmp_path_factory, pictures):
    """FastReID's own ResNet-18 with IBN, SE, non-local layers and GeM pooling."""
    opts = ("MODEL.BACKBONE.WITH_NL", True, "INPUT.SIZE_TEST", "[32, 32]")
    return trained_run(tmp_path_factory.mktemp("run"), pictures, *opts, config_file=R18)


@pytest.fixture(scope="session")
def exported(tiny, resnet, tmp_path_factory):
    """Folder and card by name of the network, width and kind."""
    root = tmp_path_factory.mktemp("export")
    every = ("checkpoint", "onnx", "program")
    wanted = (("tiny", tiny, 0.25, every), ("tiny", tiny, 1.0, every[:1]), ("resnet", resnet, 0.5, every[:2]))
    return {
        (name, width, kind): export_submodel(case.run, width, kind, root / name, case.images, "pictures")
        for name, case, width, kinds in wanted
        for kind in kinds
    }
