"""Trained models by their files: config, checkpoint, relevant settings, and whether models are comparable."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fastreid.config import CfgNode, get_cfg
from fastreid.modeling.meta_arch import build_model

from ..config import add_switchablecompat_config, check_switchablecompat_config
from ..errors import InputError
from ..modeling import SwitchableBaseline
from ..modeling.checkpoint import load_for_evaluation
from ..modeling.trained import Trained
from ..widths import width_name
from .setup import check_device

# Settings that turn an image into a feature. Models that differ in one of them are not comparable.
SAME = (
    "MODEL.PIXEL_MEAN",
    "MODEL.PIXEL_STD",
    "INPUT.SIZE_TEST",
    "INPUT.CROP.ENABLED",
    "INPUT.CROP.SIZE",
    "TEST.FLIP.ENABLED",
    "MODEL.HEADS.NECK_FEAT",
    "MODEL.HEADS.EMBEDDING_DIM",
)


@dataclass(frozen=True)
class Source:
    """A trained model and a selection of its sub-models.

    Attributes:
        config_file: its config. Empty: the checkpoint's settings, or ``config.yaml`` beside it.
        weights: its checkpoint.
        width: width of the sub-model to take; None for all sub-models.
    """

    config_file: str
    weights: str
    width: float | None = None

    @classmethod
    def of_run(cls, folder: str, width: float | None) -> Source:
        """The final model of a training run."""
        return cls("", os.path.join(folder, "model_final.pth"), width)


def strip_training(cfg: CfgNode) -> None:
    """Reset the settings that do not affect features (initial weights, classes, losses, solver), and check the rest.

    Runs of earlier versions, whose losses had other defaults, can therefore still be evaluated.

    Raises:
        InputError: The remaining settings contradict each other, or name a missing device.
    """
    defaults = add_switchablecompat_config(get_cfg())
    cfg.MODEL.BACKBONE.PRETRAIN = False
    cfg.MODEL.HEADS.NUM_CLASSES = 1
    cfg.MODEL.LOSSES, cfg.MODEL.REFERENCE, cfg.SOLVER = defaults.MODEL.LOSSES, defaults.MODEL.REFERENCE, defaults.SOLVER
    for name in {*cfg.INPUT} - {"SIZE_TRAIN", "SIZE_TEST", "CROP"}:  # augmentation
        cfg.INPUT[name] = defaults.INPUT[name]
    cfg.MODEL.SWITCHABLE.CLASSIFIER_GRAD = defaults.MODEL.SWITCHABLE.CLASSIFIER_GRAD
    cfg.MODEL.LOSSES.NAME = ("CompatibleLoss",)
    cfg.MODEL.LOSSES.COMPAT.KIND = "ce"  # the scale that suits every classification layer
    check_switchablecompat_config(cfg)
    check_device(cfg)


def check_alike(names: Sequence[str], configs: Sequence[Any]) -> None:
    """Reject models whose features are not comparable.

    Raises:
        InputError: With the key and both values.
    """
    for key in SAME:
        first = _get(configs[0], key)
        for name, cfg in zip(names, configs, strict=True):
            if _get(cfg, key) != first:
                found = f"{first} in {names[0]} and {_get(cfg, key)} in {name}"
                raise InputError(key, "must be the same for all models", found)


def build_source(source: Source, trained: Trained) -> tuple[SwitchableBaseline, list[int]]:
    """Build the model with its weights; returns it with the indices of the selected sub-models.

    Raises:
        InputError: The checkpoint belongs to another model, or lacks the selected width.
    """
    model = build_model(trained.cfg)
    load_for_evaluation(model, source.weights, content=trained.content)
    widths = list(model.switch.widths)
    if source.width is None:
        return model, list(range(len(widths)))
    names = [width_name(width) for width in widths]
    if width_name(source.width) not in names:
        raise InputError(source.weights, f"must have a sub-model of width {source.width}", f"widths {widths}")
    return model, [names.index(width_name(source.width))]


def _get(cfg: CfgNode, key: str) -> Any:
    for part in key.split("."):
        cfg = cfg[part]
    return list(cfg) if isinstance(cfg, tuple | list) else cfg
