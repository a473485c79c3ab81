"""The meta-architecture: FastReID's Baseline whose sub-models are trained and tested one width at a time."""

from __future__ import annotations

from collections.abc import Callable

import torch
from fastreid.config import configurable
from fastreid.modeling.losses import pairwise_circleloss, pairwise_cosface, triplet_loss
from fastreid.modeling.meta_arch import META_ARCH_REGISTRY
from fastreid.modeling.meta_arch.baseline import Baseline
from torch import Tensor, nn

from ..layers import WidthSwitch
from ..losses import CompatibleLoss

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

    Args:
        compatible_loss: The loss on the shared classifier's output.
        loss_kwargs: FastReID's loss options; the pair losses named there act on every sub-model's features.
    """

    plain_class = Baseline

    @configurable
    def __init__(self, *, backbone: nn.Module, heads: nn.Module, compatible_loss: CompatibleLoss, **kwargs) -> None:
        super().__init__(backbone=backbone, heads=heads, **kwargs)
        heads.make_switchable(backbone.switch, backbone.out_layout)
        self.switch: WidthSwitch = backbone.switch
        self.compatible_loss = compatible_loss

    @classmethod
    def from_config(cls, cfg) -> dict:
        return {**super().from_config(cfg), "compatible_loss": CompatibleLoss.from_config(cfg)}

    def forward(self, batched_inputs: dict | Tensor) -> Tensor | dict[str, Tensor]:
        """Features of the active sub-model (evaluation) or the losses of all sub-models (training)."""
        images = self.preprocess_image(batched_inputs)
        if not self.training:
            return self.heads(self.backbone(images))
        losses: dict[str, Tensor] = {}
        for index in range(len(self.switch)):
            losses.update(self.submodel_losses(images, batched_inputs["targets"], index)[0])
        return losses

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
            ``uncertainty_*`` in [0, 1]), keys ending in the sub-model's name, for example ``loss_compat_w025``.
        """
        with self.switch.use(index):
            name = self.switch.name
            outputs = self.heads(self.backbone(images), targets)
        losses: dict[str, Tensor] = {}
        diagnostics: dict[str, Tensor] = {}
        with torch.no_grad():
            hits = outputs["pred_class_logits"].argmax(dim=1) == targets
            diagnostics[f"cls_accuracy_{name}"] = hits.float().mean()
        wanted = self.loss_kwargs["loss_names"]
        if "CompatibleLoss" in wanted:
            losses[f"loss_compat_{name}"], uncertainty = self.compatible_loss(outputs["cls_outputs"], targets)
            if uncertainty is not None:
                diagnostics[f"uncertainty_{name}"] = uncertainty
        for loss_name, (key, kwargs_key, function) in PAIR_LOSSES.items():
            if loss_name in wanted:
                kwargs = self.loss_kwargs[kwargs_key]
                losses[f"{key}_{name}"] = function(outputs["features"], targets, kwargs) * kwargs["scale"]
        return losses, diagnostics
