"""The meta-architecture: FastReID's Baseline whose sub-models are trained and tested one width at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from fastreid.config import CfgNode, configurable
from fastreid.modeling.losses import pairwise_circleloss, pairwise_cosface, triplet_loss
from fastreid.modeling.meta_arch import META_ARCH_REGISTRY
from fastreid.modeling.meta_arch.baseline import Baseline
from torch import Tensor

from ..config_unread import reference_readers, value_of
from ..layers import WidthSwitch
from ..losses import CompatibleLoss, asymmetric_loss, distillation_loss, influence_loss
from ..own_losses import OWN_LOSSES
from .convert import SwitchableNetwork
from .head import SwitchableEmbeddingHead, build_heads_for
from .reference import ReferenceSource
from .teachers import Teachers

PAIR_LOSSES: dict[str, tuple[str, str, Callable[..., Tensor]]] = {
    # name in MODEL.LOSSES.NAME: (loss key, FastReID's loss_kwargs key, function of (features, targets, kwargs))
    "TripletLoss": (
        "loss_triplet",
        "tri",
        lambda f, t, k: triplet_loss(f, t, k["margin"], k["norm_feat"], k["hard_mining"]),
    ),
    "CircleLoss": ("loss_circle", "circle", lambda f, t, k: pairwise_circleloss(f, t, k["margin"], k["gamma"])),
    "Cosface": ("loss_cosface", "cosface", lambda f, t, k: pairwise_cosface(f, t, k["margin"], k["gamma"])),
}


@META_ARCH_REGISTRY.register()
class SwitchableBaseline(Baseline):
    """A switchable backbone and head that share one :class:`WidthSwitch`, and the losses of each sub-model.

    In evaluation ``model(inputs)`` returns the features [N, D] of the active sub-model (the full one by default), as
    FastReID expects; ``with model.switch.use(i): model(inputs)`` those of sub-model ``i``. In training it returns the
    losses of *all* sub-models, so that even FastReID's own trainer can train it by plain summation; this plug-in's
    trainer calls :meth:`submodel_losses` once per width instead, to hold one width's graph at a time.

    A step asks for the full model first and for the smallest last, whatever the method: what the full model says of the
    batch is then there for those that learn from it.

    Args:
        compatible_loss: The loss on the shared classifier's output.
        reference_source: Where the frozen model of the influence and the asymmetric loss comes from, if they use one.
            Evaluation never needs it, so it is loaded by :meth:`prepare_training`, or when a loss first asks for it.
        channels_last: Memory format of the convolutions' weights, which activations follow.
        loss_kwargs: FastReID's loss options, and ours; the pair losses named there act on every sub-model's features.
    """

    plain_class = Baseline

    @configurable
    def __init__(
        self,
        *,
        backbone: SwitchableNetwork,
        heads: SwitchableEmbeddingHead,
        compatible_loss: CompatibleLoss,
        reference_source: ReferenceSource | None = None,
        channels_last: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(backbone=backbone, heads=heads, **kwargs)
        heads.make_switchable(backbone.switch, backbone.out_layout)
        self.switch: WidthSwitch = backbone.switch
        self.compatible_loss = compatible_loss
        self.teachers = Teachers(reference_source)
        if channels_last:
            self.to(memory_format=torch.channels_last)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        kwargs = super().from_config(cfg)
        channels = kwargs["backbone"].out_layout.total
        if channels != cfg.MODEL.BACKBONE.FEAT_DIM:
            kwargs["heads"] = build_heads_for(cfg, channels)
        losses = cfg.MODEL.LOSSES
        kwargs["loss_kwargs"] |= {
            "compat": {"submodels": losses.COMPAT.SUBMODELS},
            "influence": {"scale": losses.INFLUENCE.SCALE},
            "asymmetric": {
                "scale": losses.ASYMMETRIC.SCALE,
                "teacher": losses.ASYMMETRIC.TEACHER,
                "options": {"kind": losses.ASYMMETRIC.KIND, "margin": losses.ASYMMETRIC.MARGIN},
            },
            "distill": {
                "scale": losses.DISTILL.SCALE,
                "options": {"kind": losses.DISTILL.KIND, "temperature": losses.DISTILL.TEMPERATURE},
            },
        }
        return {
            **kwargs,
            "compatible_loss": CompatibleLoss.from_config(cfg),
            "reference_source": ReferenceSource.from_config(cfg, kwargs["heads"].weight.shape[1])
            if reference_readers(lambda key: value_of(cfg, key))
            else None,
            "channels_last": cfg.MODEL.SWITCHABLE.CHANNELS_LAST,
        }

    def forward(self, batched_inputs: dict | Tensor) -> Tensor | dict[str, Tensor]:
        """Features of the active sub-model (evaluation) or the losses of all sub-models (training)."""
        images = self.preprocess_image(batched_inputs)
        if not self.training:
            return self.heads(self.backbone(images))
        assert isinstance(batched_inputs, dict)  # FastReID's trainer gives identities with the images
        losses: dict[str, Tensor] = {}
        for index in self.switch.descending:
            losses.update(self.submodel_losses(images, batched_inputs["targets"], index)[0])
        self.end_step()
        return losses

    def prepare_training(self) -> None:
        """Load the reference now, if the losses use one, rather than in the first step.

        Raises:
            InputError: It cannot be loaded, or does not fit this model.
        """
        if self.teachers.source is not None:
            self.teachers.reference(self.device)

    def end_step(self) -> None:
        """Forget what was kept of the batch; to be called when all its sub-models have been trained."""
        self.teachers.end_step()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> SwitchableBaseline:
        self.teachers.move(fn)  # what is no module of the model follows it to its device all the same
        return super()._apply(fn, recurse)

    def preprocess_image(self, batched_inputs: dict | Tensor) -> Tensor:
        """Normalise a batch ([N, 3, H, W], 0-255, RGB) once for all widths; FastReID's method does it in place."""
        images = batched_inputs["images"] if isinstance(batched_inputs, dict) else batched_inputs
        return (images.to(self.device) - self.pixel_mean) / self.pixel_std

    def submodel_losses(
        self, images: Tensor, targets: Tensor, index: int
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Losses and diagnostics of one sub-model.

        Args:
            images: [N, 3, H, W], already normalised.
            targets: [N] int64 identities.
            index: Which sub-model.

        Returns:
            Losses (to be summed and differentiated) and diagnostics (detached scalars: ``cls_accuracy_*`` as a share,
            ``uncertainty_*`` in [0, 1]; and ``certainty_*``, the expected probability of the right class, [N]), keys
            ending in the sub-model's name, for example ``loss_compat_w025``.
        """
        with self.switch.use(index):
            name, is_full = self.switch.name, self.switch.is_full
            outputs = self.heads(self.backbone(images), targets)
        if is_full and {"AsymmetricLoss", "DistillationLoss"} & {*self.loss_kwargs["loss_names"]}:
            self.teachers.keep_full(images, outputs)
        losses: dict[str, Tensor] = {}
        diagnostics: dict[str, Tensor] = {}
        with torch.no_grad():
            hits = outputs["pred_class_logits"].argmax(dim=1) == targets
            diagnostics[f"cls_accuracy_{name}"] = hits.float().mean()
        wanted = self.loss_kwargs["loss_names"]
        if "CompatibleLoss" in wanted and (is_full or self.loss_kwargs["compat"]["submodels"] == "all"):
            terms = self.compatible_loss(outputs["cls_outputs"], targets, is_full)
            losses[f"loss_compat_{name}"] = terms.loss
            if terms.uncertainty is not None:
                diagnostics[f"uncertainty_{name}"] = terms.uncertainty
            if terms.certainty is not None:
                diagnostics[f"certainty_{name}"] = terms.certainty
        if "InfluenceLoss" in wanted:
            losses[f"loss_influence_{name}"] = self._influence_loss(outputs["neck_features"], targets)
        if "AsymmetricLoss" in wanted and not (is_full and self.loss_kwargs["asymmetric"]["teacher"] == "full"):
            losses[f"loss_asymmetric_{name}"] = self._asymmetric_loss(images, outputs["neck_features"], targets)
        if "DistillationLoss" in wanted and not is_full:
            losses[f"loss_distill_{name}"] = self._distillation_loss(images, outputs)
        for loss_name, (key, kwargs_key, function) in PAIR_LOSSES.items():
            if loss_name in wanted:
                kwargs = self.loss_kwargs[kwargs_key]
                losses[f"{key}_{name}"] = function(outputs["features"], targets, kwargs) * kwargs["scale"]
        for loss_name in wanted:
            if loss_name in OWN_LOSSES:
                losses[f"loss_{loss_name.lower()}_{name}"] = OWN_LOSSES[loss_name](outputs, targets, is_full)
        return losses, diagnostics

    def _influence_loss(self, features: Tensor, targets: Tensor) -> Tensor:
        reference, smoothing = self.teachers.reference(features.device), self.loss_kwargs["ce"]
        assert reference.classifier is not None  # its source has seen to it
        loss = influence_loss(
            features,
            targets,
            reference.classifier,
            cosine=reference.cosine,
            scale=reference.scale,
            label_smoothing=smoothing["eps"],
            smoothing_alpha=smoothing["alpha"],
        )
        return loss * self.loss_kwargs["influence"]["scale"]

    def _asymmetric_loss(self, images: Tensor, features: Tensor, targets: Tensor) -> Tensor:
        node = self.loss_kwargs["asymmetric"]
        if node["teacher"] == "reference":
            teacher = self.teachers.reference_features(images)
        else:
            teacher = self.teachers.full(images, "neck_features")
        return asymmetric_loss(features, teacher, targets, **node["options"]) * node["scale"]

    def _distillation_loss(self, images: Tensor, outputs: dict[str, Tensor]) -> Tensor:
        node = self.loss_kwargs["distill"]
        what = "logits" if node["options"]["kind"] == "logits" else "neck_features"
        return distillation_loss(outputs[what], self.teachers.full(images, what), **node["options"]) * node["scale"]
