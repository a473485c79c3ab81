"""The reference: a trained, frozen model with which a new model learns to be compatible."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import torch
from fastreid.config import CfgNode
from fastreid.modeling.backbones import build_backbone
from fastreid.modeling.heads.embedding_head import EmbeddingHead
from torch import Tensor, nn

from ..config import check_switchablecompat_config
from ..errors import InputError
from .checkpoint import load_for_evaluation
from .head import SwitchableEmbeddingHead, build_heads_for
from .trained import open_trained

logger = logging.getLogger("fastreid.switchablecompat.reference")

ARCHITECTURES = ("SwitchableBaseline", "Baseline")


class ReferenceModel(nn.Module):
    """Backbone and head of a trained model, frozen.

    It is always in evaluation mode, because batch norms in training mode change their statistics even without a
    gradient. None of its parameters requires a gradient.

    Args:
        backbone: The backbone. If it is switchable, its full model is used.
        heads: The head, which in evaluation mode returns features after its BNNeck.
        classifier: Class vectors [K, D], if known.
        cosine: Whether the classifier was trained on cosines (margin softmax) instead of inner products.
        scale: Scale of the logits.
    """

    def __init__(
        self,
        backbone: nn.Module,
        heads: nn.Module,
        *,
        classifier: Tensor | None = None,
        cosine: bool = False,
        scale: float = 1.0,
    ) -> None:
        super().__init__()
        self.backbone, self.heads = backbone, heads
        self.classifier: Tensor | None
        self.register_buffer("classifier", classifier)
        self.cosine, self.scale = cosine, scale
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
    """Files of a reference, and the properties that the trained model requires of it.

    Attributes:
        config_file: ``MODEL.REFERENCE.CONFIG_FILE``. Empty: the checkpoint's settings, or ``config.yaml`` beside it.
        weights: ``MODEL.REFERENCE.WEIGHTS``.
        dimension: D of the model's features.
        classes: K of the model's classifier if the reference's classifier is used; None if only its features are. The
            trainer numbers identities in sorted order, so equal training sets give equal numbers.
        pixels: Pixel mean and standard deviation of the normalisation.
        datasets: Training sets of the model, in order.
    """

    config_file: str
    weights: str
    dimension: int
    classes: int | None
    pixels: tuple[tuple[float, ...], tuple[float, ...]]
    datasets: tuple[str, ...]

    @classmethod
    def from_config(cls, cfg: CfgNode, dimension: int) -> ReferenceSource | None:
        """The source of the reference that a checked config needs, for features of this dimension; None if it needs
        none.

        Only the influence loss needs the classifier. The asymmetric loss accepts a reference with other identities.
        """
        if not cfg.MODEL.REFERENCE.WEIGHTS:
            return None
        return cls(
            cfg.MODEL.REFERENCE.CONFIG_FILE,
            cfg.MODEL.REFERENCE.WEIGHTS,
            dimension=dimension,
            classes=cfg.MODEL.HEADS.NUM_CLASSES if "InfluenceLoss" in cfg.MODEL.LOSSES.NAME else None,
            pixels=(tuple(cfg.MODEL.PIXEL_MEAN), tuple(cfg.MODEL.PIXEL_STD)),
            datasets=tuple(cfg.DATASETS.NAMES),
        )

    def load(self) -> ReferenceModel:
        """Build the reference on the CPU from its config, and load its checkpoint.

        Raises:
            InputError: A file is missing or invalid, the config contradicts the checkpoint, or the reference does not
                fit.
        """
        try:
            trained = open_trained(self.weights, self.config_file, file_key="MODEL.REFERENCE.CONFIG_FILE")
        except InputError as error:
            raise self._named(error) from None
        cfg = trained.cfg
        self._check_config(cfg)
        with torch.random.fork_rng(devices=[]):  # building it must not change the random numbers of the run
            backbone, heads = self._build(cfg)
        holder = nn.ModuleDict({"backbone": backbone, "heads": heads})  # as in the checkpoint's keys
        try:
            classifier = load_for_evaluation(holder, self.weights, self.config_file or "this config", trained.content)
        except InputError as error:
            raise self._named(error) from None
        self._check_shape(heads.weight.shape[1], classifier)
        count = sum(p.numel() for p in backbone.parameters())
        logger.info(f"Reference: {self.weights}, {count:,} backbone parameters, {heads.weight.shape[1]} features")
        cosine = type(heads.cls_layer).__name__ != "Linear"
        return ReferenceModel(backbone, heads, classifier=classifier, cosine=cosine, scale=heads.cls_layer.s)

    def _named(self, error: InputError) -> InputError:
        """Add the config key to an error about the checkpoint."""
        key = f"MODEL.REFERENCE.WEIGHTS {self.weights}"
        return InputError(key, error.rule, error.found) if error.subject == self.weights else error

    def _build(self, cfg: CfgNode) -> tuple[nn.Module, EmbeddingHead]:
        cfg.MODEL.BACKBONE.PRETRAIN = False  # its weights come from the checkpoint
        cfg.MODEL.HEADS.NUM_CLASSES = 1  # its classifier is kept separately
        try:
            backbone = build_backbone(cfg)
            layout = getattr(backbone, "out_layout", None)
            heads = build_heads_for(cfg, layout.total if layout else cfg.MODEL.BACKBONE.FEAT_DIM)
        except KeyError as error:
            raise InputError(self.config_file, "must name a backbone and a head that are registered", error) from None
        if isinstance(heads, SwitchableEmbeddingHead):
            heads.make_switchable(backbone.switch, layout)
        if cfg.MODEL.SWITCHABLE.CHANNELS_LAST:
            backbone.to(memory_format=torch.channels_last)
        return backbone, heads

    def _check_config(self, cfg: CfgNode) -> None:
        architecture = cfg.MODEL.META_ARCHITECTURE
        if architecture == "SwitchableBaseline":
            check_switchablecompat_config(cfg)
        elif architecture not in ARCHITECTURES:
            rule = f"must be of an architecture with one backbone and one head, that is of {list(ARCHITECTURES)}"
            raise InputError(f"MODEL.REFERENCE.CONFIG_FILE {self.config_file}", rule, architecture)
        pixels = (tuple(cfg.MODEL.PIXEL_MEAN), tuple(cfg.MODEL.PIXEL_STD))
        if pixels != self.pixels:
            rule = f"must have this config's PIXEL_MEAN and PIXEL_STD {self.pixels}, since both see the same batch"
            raise InputError(f"MODEL.REFERENCE.CONFIG_FILE {self.config_file}", rule, pixels)
        if self.classes is not None and tuple(cfg.DATASETS.NAMES) != self.datasets:
            logger.warning(
                f"The reference was trained on {tuple(cfg.DATASETS.NAMES)}, but this model is on {self.datasets}. Its "
                "classifier is only valid here if both sets number the same identities in the same order"
            )

    def _check_shape(self, dimension: int, classifier: Tensor | None) -> None:
        if dimension != self.dimension:
            rule = f"must be a model with features of this config's dimension, {self.dimension} (HEADS.EMBEDDING_DIM)"
            raise InputError(f"MODEL.REFERENCE.WEIGHTS {self.weights}", rule, dimension)
        if self.classes is None:
            return
        if classifier is None:
            raise InputError(f"MODEL.REFERENCE.WEIGHTS {self.weights}", "must hold its classifier", "none")
        if classifier.shape[0] != self.classes:
            rule = f"must classify the {self.classes} training identities of this run, for InfluenceLoss"
            raise InputError(f"MODEL.REFERENCE.WEIGHTS {self.weights}", rule, f"{classifier.shape[0]} identities")
