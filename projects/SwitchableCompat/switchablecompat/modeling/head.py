"""FastReID's embedding head at every width, with one feature dimension and one shared classifier."""

from typing import Any

import torch
import torch.nn.functional as F
from fastreid.config import CfgNode, configurable
from fastreid.modeling.heads import REID_HEADS_REGISTRY
from fastreid.modeling.heads.embedding_head import EmbeddingHead
from torch import Tensor, nn

from ..config_rules import check_rules, one_of
from ..errors import InputError
from ..layers import ChannelLayout, WidthSwitch
from ..losses.precision import at_least_float32
from .convert import Conversion
from .margins import with_margin
from .simplex import regular_simplex


@REID_HEADS_REGISTRY.register()
class SwitchableEmbeddingHead(EmbeddingHead):
    """Pooling, slimmable 1x1 embedding, switchable BNNeck, and a classifier ``weight`` that all sub-models share.

    The embedding takes the channels of the active sub-model and always returns ``embedding_dim`` features. Statistics
    and affine parameters of the BNNeck are private per sub-model. Options are those of FastReID's ``EmbeddingHead``.

    Args:
        classifier_grad: Sub-models that train the shared classifier: ``all``, or only the ``full`` model (the others
            then adapt to its class vectors).
        classifier: Class vectors: ``learned``, or fixed as the vertices of a regular ``simplex``.
        submodel_start: Initial values of the neck's norms of narrow widths: ``fresh``, or slices of the full model's.
    """

    plain_class = EmbeddingHead
    weight: nn.Parameter
    bottleneck: nn.Sequential

    @configurable
    def __init__(
        self,
        *,
        classifier_grad: str = "full",
        classifier: str = "learned",
        submodel_start: str = "slices",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.fresh_norms = submodel_start == "fresh"
        self.classifier_grad, self.classifier = classifier_grad, classifier
        if classifier == "simplex" and len(self.weight) > 1:  # without classes the head only returns features
            self._fix_classifier()

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        node = cfg.MODEL.SWITCHABLE
        check_classifier(cfg)
        return {
            **super().from_config(cfg),
            "classifier_grad": node.CLASSIFIER_GRAD,
            "classifier": node.CLASSIFIER,
            "submodel_start": node.SUBMODEL_START,
        }

    def _fix_classifier(self) -> None:
        classes, dimension = self.weight.shape
        if dimension < classes - 1:
            rule = f"must be at least {classes - 1} for a simplex of {classes} classes (MODEL.SWITCHABLE.CLASSIFIER)"
            raise InputError("MODEL.HEADS.EMBEDDING_DIM", rule, dimension)
        self.weight = nn.Parameter(regular_simplex(classes, dimension), requires_grad=False)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        if self.classifier == "simplex":  # stays fixed, whatever classifier the checkpoint has
            state_dict[f"{prefix}weight"] = self.weight.detach()
        super()._load_from_state_dict(state_dict, prefix, *args)

    def make_switchable(self, switch: WidthSwitch, x: ChannelLayout) -> None:
        """Convert the neck for a backbone that has this switch and output layout ``x``."""
        ctx = Conversion(switch=switch, fresh_norms=self.fresh_norms)
        neck: list[nn.Module] = list(self.bottleneck)
        if neck and isinstance(neck[0], nn.Conv2d):
            neck[0], x = ctx.conv(neck[0], x, out=ctx.rule.fixed(neck[0].out_channels))
        if neck and not isinstance(neck[-1], nn.Conv2d):
            neck[-1], x = ctx.convert(neck[-1], x)
        self.bottleneck = nn.Sequential(*neck)
        self.switch = switch

    def forward(self, features: Tensor, targets: Tensor | None = None) -> Tensor | dict[str, Tensor]:
        """Run the head as FastReID's ``EmbeddingHead.forward``, on ``features`` [N, C_i, H, W] of the active sub-model.

        Returns:
            In evaluation, the features [N, D]. In training, a dict with ``cls_outputs`` (with margin), ``logits``
            (without margin) and ``pred_class_logits`` (``logits``, detached), all [N, K]; ``features`` for FastReID's
            pair losses ([N, C_i] before the neck or [N, D] after it, by NECK_FEAT); and ``neck_features`` ([N, D],
            always after the neck, as in evaluation).
        """
        pool_feat = self.pool_layer(features)
        if pool_feat.shape[-2:] != (1, 1):
            rule = f"must pool the backbone's {pool_feat.shape[-2]}x{pool_feat.shape[-1]} positions to one"
            raise InputError("MODEL.HEADS.POOL_LAYER", rule, type(self.pool_layer).__name__)
        neck_feat = self.bottleneck(pool_feat)[..., 0, 0]
        if not self.training:
            return neck_feat

        weight: Tensor = self.weight
        if self.classifier_grad == "full" and not self.switch.is_full:
            weight = weight.detach()
        kind = type(self.cls_layer).__name__
        if kind == "Linear":
            logits = F.linear(neck_feat, weight)
        else:
            # float32 also under autocast: half precision cannot resolve a margin near a cosine of 1
            with torch.autocast(neck_feat.device.type, enabled=False):
                logits = F.linear(F.normalize(at_least_float32(neck_feat)), F.normalize(at_least_float32(weight)))
            if kind == "ArcSoftmax":  # rounding can exceed [-1, 1], where acos is NaN
                logits = logits.clamp(-1 + 1e-6, 1 - 1e-6)
        scaled = logits * self.cls_layer.s
        return {
            "cls_outputs": with_margin(self.cls_layer, logits, targets),
            "logits": scaled,
            "pred_class_logits": scaled.detach(),
            "features": pool_feat[..., 0, 0] if self.neck_feat == "before" else neck_feat,
            "neck_features": neck_feat,
        }


def check_classifier(cfg: CfgNode) -> None:
    """Reject unknown or contradictory values of the classifier keys (InputError)."""
    rules = {"CLASSIFIER": one_of("learned", "simplex"), "CLASSIFIER_GRAD": one_of("all", "full", "certain")}
    check_rules(cfg, rules, "MODEL.SWITCHABLE.")
    if cfg.MODEL.SWITCHABLE.CLASSIFIER_GRAD == "certain" and cfg.MODEL.LOSSES.COMPAT.KIND == "ce":
        rule = "must not be certain without an evidential loss: there is no certainty to follow"
        raise InputError("MODEL.SWITCHABLE.CLASSIFIER_GRAD", rule, "certain")
