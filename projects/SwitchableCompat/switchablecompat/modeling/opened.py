"""A trained model, opened for its features: the one way from a checkpoint to a network, its settings and its family."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from fastreid.config import CfgNode, get_cfg
from fastreid.modeling.meta_arch import build_model
from torch import Tensor

from ..config import add_switchablecompat_config, check_switchablecompat_config, merge_config
from ..errors import InputError
from ..layers import WidthSwitch
from ..provenance import family_digest
from ..settings import METRIC, feature_settings, preprocessing_of
from .checkpoint import load_for_evaluation
from .trained import read_trained, run_record

ARCHITECTURES = ("SwitchableBaseline", "Baseline", "build_submodel")
CARD_KEY = "model_card"  # in an exported file: ONNX metadata, extra file of a program, record of a checkpoint


@dataclass(frozen=True, eq=False)
class OpenedModel:
    """A network with trained weights, whatever kept them: a run, an exported checkpoint, FastReID."""

    weights: str  # its checkpoint; empty with initial weights
    cfg: Any  # frozen, without what only training needs
    network: Any  # in evaluation mode, without its classifier
    record: dict[str, Any]  # what it keeps of its run (:func:`~.trained.run_record`)
    classifier: Tensor | None = None  # its class vectors [K, D]; None if the file has none

    @property
    def switch(self) -> WidthSwitch:
        """What holds the active width (InputError if this is no switchable model)."""
        if not hasattr(self.network, "switch"):
            found = self.cfg.MODEL.META_ARCHITECTURE
            raise InputError(self.weights, "must be a switchable model (MODEL.META_ARCHITECTURE)", found)
        return self.network.switch

    @property
    def widths(self) -> tuple[float, ...]:
        """Width multipliers of its sub-models, ascending."""
        return self.switch.widths

    @property
    def dimension(self) -> int:
        """D, length of a feature."""
        return self.network.heads.weight.shape[1]

    @cached_property
    def family(self) -> str:
        """Digest of the feature space, an exported file's that of its run; ``untrained`` with initial weights."""
        if CARD_KEY in self.record:
            return json.loads(self.record[CARD_KEY])["family"]
        return family_digest(self.network.state_dict(), feature_settings(self.cfg)) if self.weights else "untrained"

    @property
    def space(self) -> dict[str, Any]:
        """What must agree with another model's for features to compare (:func:`~..settings.check_comparable`)."""
        return {
            "family": self.family,
            "dimension": self.dimension,
            "metric": METRIC,
            "preprocessing": preprocessing_of(self.cfg),
        }

    def index_of(self, width: float) -> int:
        """Position of a width among the sub-models (InputError if it has no such sub-model)."""
        try:
            return self.switch.index_of(width)
        except InputError:
            rule = f"must have a sub-model of width {width}"
            raise InputError(self.weights, rule, f"widths {[*self.widths]}") from None


@dataclass(frozen=True)
class Source:
    """A model to open, and which of its sub-models to take."""

    config_file: str  # empty for what the checkpoint keeps, or for ``config.yaml`` beside it
    weights: str
    width: float | None = None  # the one sub-model to take; None for all of them

    @classmethod
    def of_run(cls, folder: str, width: float | None) -> Source:
        """The final model of a training run."""
        return cls("", os.path.join(folder, "model_final.pth"), width)


def open_model(
    weights: str,
    config_file: str = "",
    opts: Sequence[str] = (),
    *,
    file_key: str = "--config-file",
    as_trained: bool = False,
) -> OpenedModel:
    """Build a network and load its weights. Random states stay as they are.

    Args:
        weights: The checkpoint; empty for initial weights, which tell nothing but sizes and speed.
        config_file: Its config; empty for what the checkpoint keeps, or for ``config.yaml`` beside it.
        opts: ``KEY VALUE`` pairs that override the config.
        file_key: What a message about an absent config names.
        as_trained: Keep the memory format of the training; else weights are in torch's default one, in which an
            exported sub-model gives the same bits.

    Raises:
        InputError: A file that cannot be used, or a config that contradicts itself, the machine or the checkpoint.
    """
    if weights:
        saved = read_trained(weights, config_file, opts, file_key)
        cfg, record = saved.cfg, saved.record
    else:
        cfg = merge_config(config_file, opts, file_key)
        record = run_record(cfg)
    strip_training(cfg, config_file or weights)
    channels_last = cfg.MODEL.SWITCHABLE.CHANNELS_LAST = cfg.MODEL.SWITCHABLE.CHANNELS_LAST and as_trained
    cfg.freeze()
    with torch.random.fork_rng(devices=[]):
        try:
            network = build_model(cfg).eval()
        except KeyError as error:
            raise InputError(config_file or weights, "must name registered backbones and heads", error) from None
    if channels_last:
        network.to(memory_format=torch.channels_last)
    if not weights:
        return OpenedModel(weights, cfg, network, record)
    classifier = load_for_evaluation(network, weights, config_file or "this config", saved.content)
    return OpenedModel(weights, cfg, network, record, classifier)


def strip_training(cfg: CfgNode, name: str = "config") -> None:
    """Leave out of a config what features do not depend on: starting weights, classes, losses, solver; check the rest.

    A run of an earlier version, whose losses had other defaults, can so be evaluated still. ``cfg`` is changed in
    place; a message calls it ``name``.

    Raises:
        InputError: What is left contradicts itself, or names an architecture or a device that cannot be used.
    """
    defaults = add_switchablecompat_config(get_cfg())
    cfg.MODEL.BACKBONE.PRETRAIN = False
    cfg.MODEL.HEADS.NUM_CLASSES = 1
    cfg.MODEL.LOSSES, cfg.MODEL.REFERENCE, cfg.SOLVER = defaults.MODEL.LOSSES, defaults.MODEL.REFERENCE, defaults.SOLVER
    for key in ("SAMPLER_TRAIN", "NUM_INSTANCE"):
        cfg.DATALOADER[key] = defaults.DATALOADER[key]
    for key in {*cfg.INPUT} - {"SIZE_TRAIN", "SIZE_TEST", "CROP"}:  # augmentation
        cfg.INPUT[key] = defaults.INPUT[key]
    cfg.MODEL.SWITCHABLE.CLASSIFIER_GRAD = defaults.MODEL.SWITCHABLE.CLASSIFIER_GRAD
    cfg.MODEL.LOSSES.NAME = ("CompatibleLoss",)
    cfg.MODEL.LOSSES.COMPAT.KIND = "ce"  # which goes with every classification layer
    architecture = cfg.MODEL.META_ARCHITECTURE
    if architecture not in ARCHITECTURES:
        rule = f"must be of an architecture with one backbone and one head, that is of {[*ARCHITECTURES]}"
        raise InputError(name, rule, architecture)
    if architecture == "SwitchableBaseline":
        check_switchablecompat_config(cfg)
    check_available(cfg.MODEL.DEVICE)


def check_available(name: str) -> None:
    """Refuse a device that this machine does not have."""
    device = torch.device(name)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise InputError("MODEL.DEVICE", "no CUDA device is usable here; add MODEL.DEVICE cpu", name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        rule = f"must be one of this machine's {torch.cuda.device_count()} CUDA devices, numbered from 0"
        raise InputError("MODEL.DEVICE", rule, name)
