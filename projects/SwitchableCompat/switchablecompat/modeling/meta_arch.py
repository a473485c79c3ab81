"""The meta-architecture: FastReID's Baseline, trained and tested one sub-model at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from fastreid.config import CfgNode, configurable
from fastreid.modeling.heads import build_heads
from fastreid.modeling.losses import pairwise_circleloss, pairwise_cosface
from fastreid.modeling.meta_arch import META_ARCH_REGISTRY
from fastreid.modeling.meta_arch.baseline import Baseline
from torch import Tensor

from ..config_unread import getter, reference_readers
from ..layers import WidthSwitch
from ..losses import CompatibleLoss, asymmetric_loss, distillation_loss, influence_loss
from ..losses.fastreid_losses import triplet_loss
from ..losses.precision import at_least_float32
from ..own_losses import OWN_LOSSES
from .compiled import CompiledBackbone
from .convert import SwitchableNetwork
from .head import SwitchableEmbeddingHead
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

    In evaluation ``model(inputs)`` returns the features [N, D] of the active sub-model (by default the full model), as
    FastReID expects. ``with model.switch.use(i): model(inputs)`` returns those of sub-model ``i``. In training it
    returns the losses of *all* sub-models, so that FastReID's own trainer can train it by the plain sum. This plug-in's
    trainer instead calls :meth:`submodel_losses` once per width, to keep only one width's graph at a time.

    Every step starts with the full model and ends with the smallest sub-model, whatever the method. Smaller sub-models
    can then learn from the full model's output for the batch.

    Args:
        compatible_loss: The loss on the shared classifier's output.
        reference_source: Source of the frozen model for the influence and the asymmetric loss, if they need one.
            Evaluation never needs it, so :meth:`prepare_training` or the first loss loads it.
        channels_last: Whether the weights of convolutions, and with them activations, are channels-last in memory.
        compile_mode: How to compile the backbone for training, see :class:`~.compiled.CompiledBackbone`, or ``none``.
        loss_kwargs: FastReID's loss options, and below ``ours`` MODEL.LOSSES. FastReID's pair losses act on the
            features of every sub-model.
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
        compile_mode: str = "none",
        **kwargs: Any,
    ) -> None:
        super().__init__(backbone=backbone, heads=heads, **kwargs)
        heads.make_switchable(backbone.switch, backbone.out_layout)
        self.switch: WidthSwitch = backbone.switch
        self.compatible_loss = compatible_loss
        self.teachers = Teachers(reference_source)
        self.compile_mode = compile_mode
        self._compiled: CompiledBackbone | None = None
        if channels_last:
            self.to(memory_format=torch.channels_last)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        kwargs = super().from_config(cfg)
        channels = kwargs["backbone"].out_layout.total
        if channels != cfg.MODEL.BACKBONE.FEAT_DIM:  # with ONLY_WIDTH
            narrow = cfg.clone()
            narrow.defrost()
            narrow.MODEL.BACKBONE.FEAT_DIM = channels
            kwargs["heads"] = build_heads(narrow)
        kwargs["loss_kwargs"]["ours"] = cfg.MODEL.LOSSES.clone()
        return {
            **kwargs,
            "compatible_loss": CompatibleLoss.from_config(cfg),
            "reference_source": ReferenceSource.from_config(cfg, kwargs["heads"].weight.shape[1])
            if reference_readers(getter(cfg))
            else None,
            "channels_last": cfg.MODEL.SWITCHABLE.CHANNELS_LAST,
            "compile_mode": cfg.MODEL.SWITCHABLE.COMPILE,
        }

    def forward(self, batched_inputs: dict | Tensor) -> Tensor | dict[str, Tensor]:
        """Features of the active sub-model (evaluation), or losses of all sub-models (training)."""
        images = self.preprocess_image(batched_inputs)
        if not self.training:
            return self.heads(self.backbone(images))
        assert isinstance(batched_inputs, dict)  # FastReID's trainer passes identities with the images
        losses: dict[str, Tensor] = {}
        for index in self.switch.descending:
            losses.update(self.submodel_losses(images, batched_inputs["targets"], index)[0])
        self.end_step()
        return losses

    def prepare_training(self) -> None:
        """Before the first step, load the reference if the losses use one (InputError if it cannot be loaded or does
        not fit this model), and compile the backbone if asked to."""
        if self.teachers.source is not None:
            self.teachers.reference(self.device)
        if self.compile_mode != "none":
            self._compiled = CompiledBackbone(self.backbone, self.compile_mode)

    def end_step(self) -> None:
        """Discard all data of the batch. Call it after all sub-models of a step."""
        self.teachers.end_step()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> SwitchableBaseline:
        self.teachers.move(fn)  # the teachers are no module of the model, so move them explicitly
        return super()._apply(fn, recurse)

    def preprocess_image(self, batched_inputs: dict | Tensor) -> Tensor:
        """Normalise a batch ([N, 3, H, W], 0-255, RGB) once for all widths. FastReID's method works in place."""
        images = batched_inputs["images"] if isinstance(batched_inputs, dict) else batched_inputs
        return (images.to(self.device) - self.pixel_mean) / self.pixel_std

    def submodel_losses(
        self, images: Tensor, targets: Tensor, index: int
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Compute losses and diagnostics of sub-model ``index`` for normalised images [N, 3, H, W].

        Returns:
            Losses, to be summed and differentiated, and diagnostics without graph. Diagnostics are the scalars
            ``cls_accuracy_*`` (a share) and ``uncertainty_*`` (in [0, 1]), and ``certainty_*``, the expected
            probability of the correct class, [N]. Keys end in the sub-model's name, for example ``loss_compat_w025``.
        """
        with self.switch.use(index):
            name, is_full = self.switch.name, self.switch.is_full
            if self._compiled is not None and is_full:
                self._compiled.begin_step()
            outputs = self.heads((self._compiled or self.backbone)(images), targets)
        wanted, ours = self.loss_kwargs["loss_names"], self.loss_kwargs["ours"]
        if is_full and {"AsymmetricLoss", "DistillationLoss"} & {*wanted}:
            self.teachers.keep_full(images, outputs)
        losses: dict[str, Tensor] = {}
        diagnostics: dict[str, Tensor] = {}
        with torch.no_grad():
            hits = outputs["pred_class_logits"].argmax(dim=1) == targets
            diagnostics[f"cls_accuracy_{name}"] = hits.float().mean()
        if "CompatibleLoss" in wanted and (is_full or ours.COMPAT.SUBMODELS == "all"):
            terms = self.compatible_loss(outputs["cls_outputs"], targets, is_full)
            losses[f"loss_compat_{name}"] = terms.loss
            if terms.uncertainty is not None:
                diagnostics[f"uncertainty_{name}"] = terms.uncertainty
            if terms.certainty is not None:
                diagnostics[f"certainty_{name}"] = terms.certainty
        if "InfluenceLoss" in wanted:
            losses[f"loss_influence_{name}"] = self._influence_loss(outputs["neck_features"], targets)
        if "AsymmetricLoss" in wanted and not (is_full and ours.ASYMMETRIC.TEACHER == "full"):
            losses[f"loss_asymmetric_{name}"] = self._asymmetric_loss(images, outputs["neck_features"], targets)
        if "DistillationLoss" in wanted and not is_full:
            losses[f"loss_distill_{name}"] = self._distillation_loss(images, outputs)
        for loss_name, (key, kwargs_key, function) in PAIR_LOSSES.items():
            if loss_name in wanted:
                kwargs = self.loss_kwargs[kwargs_key]
                with torch.autocast(images.device.type, enabled=False):
                    features = at_least_float32(outputs["features"])
                    losses[f"{key}_{name}"] = function(features, targets, kwargs) * kwargs["scale"]
        for loss_name in wanted:
            if loss_name in OWN_LOSSES:
                losses[f"loss_{loss_name.lower()}_{name}"] = OWN_LOSSES[loss_name](outputs, targets, is_full)
        return losses, diagnostics

    def _influence_loss(self, features: Tensor, targets: Tensor) -> Tensor:
        reference, smoothing = self.teachers.reference(features.device), self.loss_kwargs["ce"]
        assert reference.classifier is not None  # its source has checked that it exists
        loss = influence_loss(
            features,
            targets,
            reference.classifier,
            cosine=reference.cosine,
            scale=reference.scale,
            label_smoothing=smoothing["eps"],
            smoothing_alpha=smoothing["alpha"],
        )
        return loss * self.loss_kwargs["ours"].INFLUENCE.SCALE

    def _asymmetric_loss(self, images: Tensor, features: Tensor, targets: Tensor) -> Tensor:
        node = self.loss_kwargs["ours"].ASYMMETRIC
        if node.TEACHER == "reference":
            teacher = self.teachers.reference_features(images)
        else:
            teacher = self.teachers.full(images, "neck_features")
        return asymmetric_loss(features, teacher, targets, kind=node.KIND, margin=node.MARGIN) * node.SCALE

    def _distillation_loss(self, images: Tensor, outputs: dict[str, Tensor]) -> Tensor:
        node = self.loss_kwargs["ours"].DISTILL
        what = "logits" if node.KIND == "logits" else "neck_features"
        teacher = self.teachers.full(images, what)
        return distillation_loss(outputs[what], teacher, kind=node.KIND, temperature=node.TEMPERATURE) * node.SCALE
