"""The reference: a trained, frozen model with which a new model learns to be compatible."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from fastreid.config import CfgNode
from torch import Tensor, nn

from ..errors import InputError
from ..settings import check_comparable, preprocessing_of
from .opened import OpenedModel, open_model

logger = logging.getLogger("fastreid.switchablecompat.reference")


class ReferenceModel(nn.Module):
    """Backbone (its full model, if it is switchable) and head of a trained model, frozen.

    It is always in evaluation mode, because batch norms in training mode change their statistics even without a
    gradient. None of its parameters requires a gradient.

    Attributes:
        classifier: Class vectors [K, D], if known.
        cosine: Whether the classifier was trained on cosines (margin softmax) instead of inner products.
        scale: Scale of the logits.
    """

    classifier: Tensor | None

    def __init__(self, opened: OpenedModel) -> None:
        super().__init__()
        self.backbone, self.heads = opened.network.backbone, opened.network.heads
        self.register_buffer("classifier", opened.classifier)
        self.cosine, self.scale = type(self.heads.cls_layer).__name__ != "Linear", self.heads.cls_layer.s
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> ReferenceModel:
        """Stay in evaluation mode, whatever ``mode`` is."""
        return super().train(False)

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        """Features [N, D] of normalised images [N, 3, H, W]."""
        return self.heads(self.backbone(images))


@dataclass(frozen=True)
class ReferenceSource:
    """Files of a reference (of ``MODEL.REFERENCE``), and the properties that the trained model requires of it.

    Attributes:
        space: Dimension of the model's features, and what its images are normalised with: both see the same batch.
        classes: K of the model's classifier where the reference's classifier is used (identities are numbered by the
            trainer, in sorted order, so the same training set gives the same order); None where only its features are.
        datasets: Training sets of the model, in order.
    """

    config_file: str
    weights: str
    space: Mapping[str, Any]
    classes: int | None
    datasets: tuple[str, ...]

    @classmethod
    def from_config(cls, cfg: CfgNode, dimension: int) -> ReferenceSource | None:
        """The source of the reference that a checked config names, for features of this dimension; None without one.

        Only the influence loss needs the classifier. The asymmetric loss accepts a reference with other identities.
        """
        if not cfg.MODEL.REFERENCE.WEIGHTS:
            return None
        return cls(
            cfg.MODEL.REFERENCE.CONFIG_FILE,
            cfg.MODEL.REFERENCE.WEIGHTS,
            _space(cfg, dimension),
            classes=cfg.MODEL.HEADS.NUM_CLASSES if "InfluenceLoss" in cfg.MODEL.LOSSES.NAME else None,
            datasets=tuple(cfg.DATASETS.NAMES),
        )

    def load(self) -> ReferenceModel:
        """Open the reference on the CPU (InputError if it cannot be opened or does not fit)."""
        key = f"MODEL.REFERENCE.WEIGHTS {self.weights}"
        file_key, opts = "MODEL.REFERENCE.CONFIG_FILE", ["MODEL.DEVICE", "cpu"]
        try:
            opened = open_model(self.weights, self.config_file, opts, file_key=file_key, as_trained=True)
        except InputError as error:
            raise InputError(key, error.rule, error.found) if error.subject == self.weights else error from None
        check_comparable(("this config", self.space), (key, _space(opened.cfg, opened.dimension)))
        self._check_classifier(key, opened)
        count = sum(p.numel() for p in opened.network.backbone.parameters())
        logger.info(f"Reference: {self.weights}, {count:,} backbone parameters, {opened.dimension} features")
        return ReferenceModel(opened)

    def _check_classifier(self, key: str, opened: OpenedModel) -> None:
        if self.classes is None:
            return
        datasets = tuple(opened.cfg.DATASETS.NAMES)
        if datasets != self.datasets:
            logger.warning(
                f"The reference was trained on {datasets}, this model is on {self.datasets}: its classifier means "
                "something here only if both number the same identities in the same order"
            )
        if opened.classifier is None:
            raise InputError(key, "must hold its classifier", "none")
        if len(opened.classifier) != self.classes:
            rule = f"must classify the {self.classes} training identities of this run, for InfluenceLoss"
            raise InputError(key, rule, f"{len(opened.classifier)} identities")


def _space(cfg: CfgNode, dimension: int) -> dict[str, Any]:
    preprocessing = preprocessing_of(cfg)
    return {"dimension": dimension, "preprocessing": {key: preprocessing[key] for key in ("pixel_mean", "pixel_std")}}
