"""Differences between two encoders, and the pictures they are measured on."""

import math

import pytest
import torch

from builders import tiny_config
from switchablecompat.deploy.files.parity import largest_differences, parity_images
from switchablecompat.deploy.images import read_images
from switchablecompat.errors import InputError
from switchablecompat.settings import preprocessing_of

IMAGES = torch.arange(8.0).view(8, 1, 1, 1).expand(8, 3, 2, 2)


def identity(batch):
    return batch[:, :, 0, 0]


def test_the_largest_difference_at_each_batch_size():
    def wrong_alone(batch):
        return identity(batch) + (0.25 if len(batch) == 1 else 0) * (batch[:, :, 0, 0] == 5)

    def wrong_together(batch):
        return identity(batch) - (0.5 if len(batch) == 8 else 0) * (batch[:, :, 0, 0] == 7)

    assert largest_differences(identity, identity, IMAGES) == {"batch_1": 0.0, "batch_8": 0.0}
    assert largest_differences(wrong_alone, identity, IMAGES) == {"batch_1": 0.25, "batch_8": 0.0}
    assert largest_differences(identity, wrong_together, IMAGES) == {"batch_1": 0.0, "batch_8": 0.5}


def test_one_undefined_feature_is_not_lost():
    found = largest_differences(lambda batch: identity(batch) / (batch[:, :, 0, 0] != 3), identity, IMAGES)
    assert found["batch_8"] == math.inf
    found = largest_differences(lambda batch: identity(batch) * math.nan ** (batch[:, :, 0, 0] == 3), identity, IMAGES)
    assert math.isnan(found["batch_1"])
    assert math.isnan(found["batch_8"])


def test_images_are_spread_over_the_folder(pictures):
    cfg = tiny_config()
    images, source = parity_images(cfg, str(pictures))
    files = sorted(pictures.iterdir())
    assert torch.equal(images, read_images(files[:8], preprocessing_of(cfg)))  # 9 files: all but the last
    assert source == "--images"


def test_images_of_the_configs_test_set(tmp_path, monkeypatch):
    monkeypatch.setenv("FASTREID_DATASETS", str(tmp_path))
    cfg = tiny_config()
    images, source = parity_images(cfg)
    assert images.shape == (8, 3, 64, 32)
    assert len(images.flatten(1).unique(dim=0)) == 8
    assert source == "SyntheticReIDTiny"


def test_too_few_images_or_no_test_set_are_refused(pictures, tmp_path, monkeypatch):
    cfg = tiny_config()
    (tmp_path / "0.png").write_bytes((pictures / "0.png").read_bytes())
    with pytest.raises(InputError, match="must hold at least 8 images to compare features on, found 1"):
        parity_images(cfg, str(tmp_path))
    monkeypatch.setenv("FASTREID_DATASETS", str(tmp_path))
    cfg = tiny_config("DATASETS.TESTS", "('Market1501',)")
    with pytest.raises(InputError, match="--images: must name a folder of images where .* data set Market1501: needs"):
        parity_images(cfg)
