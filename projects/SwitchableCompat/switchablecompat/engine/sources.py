"""Trained models by their files: which config and checkpoint, what of the config counts, and whether they compare."""

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

# What turns an image into a feature: if two models differ in one of these, they do not see, or mean, the same thing.
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
    """A trained model, and which of its sub-models to take.

    Attributes:
        config_file: its config; empty for what the checkpoint keeps, or for ``config.yaml`` beside it.
        weights: its checkpoint.
        width: the one sub-model to take; None for all of them.
    """

    config_file: str
    weights: str
    width: float | None = None

    @classmethod
    def of_run(cls, folder: str, width: float | None) -> Source:
        """The final model of a training run."""
        return cls("", os.path.join(folder, "model_final.pth"), width)


def strip_training(cfg: CfgNode) -> None:
    """Leave out of a config what features do not depend on: starting weights, classes, losses, solver; check the rest.

    A run of an earlier version, whose losses had other defaults, can so be evaluated still.

    Raises:
        InputError: What is left contradicts itself, or names a device that is not there.
    """
    defaults = add_switchablecompat_config(get_cfg())
    cfg.MODEL.BACKBONE.PRETRAIN = False
    cfg.MODEL.HEADS.NUM_CLASSES = 1
    cfg.MODEL.LOSSES, cfg.MODEL.REFERENCE, cfg.SOLVER = defaults.MODEL.LOSSES, defaults.MODEL.REFERENCE, defaults.SOLVER
    for name in {*cfg.INPUT} - {"SIZE_TRAIN", "SIZE_TEST", "CROP"}:  # augmentation
        cfg.INPUT[name] = defaults.INPUT[name]
    cfg.MODEL.SWITCHABLE.CLASSIFIER_GRAD = defaults.MODEL.SWITCHABLE.CLASSIFIER_GRAD
    cfg.MODEL.LOSSES.NAME = ("CompatibleLoss",)
    cfg.MODEL.LOSSES.COMPAT.KIND = "ce"  # which goes with every classification layer
    check_switchablecompat_config(cfg)
    check_device(cfg)


def check_alike(names: Sequence[str], configs: Sequence[Any]) -> None:
    """Refuse models whose features cannot be compared.

    Raises:
        InputError: The key, and both values.
    """
    for key in SAME:
        first = _get(configs[0], key)
        for name, cfg in zip(names, configs, strict=True):
            if _get(cfg, key) != first:
                found = f"{first} in {names[0]} and {_get(cfg, key)} in {name}"
                raise InputError(key, "must be the same for all models", found)


def build_source(source: Source, trained: Trained) -> tuple[SwitchableBaseline, list[int]]:
    """The model with its weights, and the indices of the sub-models to take.

    Raises:
        InputError: A checkpoint of another model, or one without the width that is asked for.
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
