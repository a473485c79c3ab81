"""Read image files as FastReID's test pipeline does. All inputs of sub-models in deployment are made here."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from fastreid.config import get_cfg
from fastreid.data import common
from fastreid.data.transforms import build_transforms
from torch import Tensor


def input_size(preprocessing: Mapping[str, Any]) -> tuple[int, int]:
    """Height and width of the model's input images."""
    height, width = preprocessing.get("center_crop", preprocessing["size"])
    return height, width


def read_images(paths: Sequence[str | Path], preprocessing: Mapping[str, Any]) -> Tensor:
    """Read, resize and stack one or more image files with FastReID's own reader and test transforms.

    Returns [N, 3, H, W] float32, RGB, 0-255, as the ``preprocessing`` of a model's card says. An unreadable file, or
    one that is neither RGB nor grey, raises InputError.
    """
    cfg = get_cfg()
    cfg.INPUT.SIZE_TEST = list(preprocessing["size"])
    if "center_crop" in preprocessing:
        cfg.INPUT.CROP.ENABLED, cfg.INPUT.CROP.SIZE = True, list(preprocessing["center_crop"])
    transform = build_transforms(cfg, is_train=False)
    return torch.stack([transform(common.read_image(str(path))) for path in paths])
