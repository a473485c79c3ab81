"""Teachers of a sub-model: a frozen reference, or the full model of the same network."""

from collections.abc import Callable

import torch
from torch import Tensor

from .reference import ReferenceModel, ReferenceSource


class Teachers:
    """Gives access to the output of the reference and of the full model for the current batch.

    This class is deliberately no ``nn.Module``, because the teachers are not part of the model. They are in no state
    dict and no optimiser, ``train()`` and BN calibration do not affect them, and an extracted sub-model does not
    contain them. Outputs are kept for one batch, without graph, so that each teacher runs once per step.
    """

    def __init__(self, source: ReferenceSource | None) -> None:
        self.source = source
        self._reference: ReferenceModel | None = None
        self._images: Tensor | None = None
        self._kept: dict[str, Tensor] = {}

    def reference(self, device: torch.device) -> ReferenceModel:
        """The reference, loaded at first use, because evaluation does not need its files (errors: its source's)."""
        if self._reference is None:
            if self.source is None:
                raise RuntimeError("this model was built without a reference")
            self._reference = self.source.load().to(device)
        return self._reference

    def reference_features(self, images: Tensor) -> Tensor:
        """Features [N, D] of the reference for a normalised batch."""
        kept = self._of_batch(images)
        if "reference" not in kept:
            kept["reference"] = self.reference(images.device).features(images)
        return kept["reference"]

    def keep_full(self, images: Tensor, outputs: dict[str, Tensor]) -> None:
        """Keep the output of the full model's head for this batch, for the smaller sub-models."""
        kept = self._of_batch(images)
        kept.update({f"full {key}": outputs[key].detach() for key in ("neck_features", "logits")})

    def full(self, images: Tensor, key: str) -> Tensor:
        """Output of the full model for this batch: ``neck_features`` [N, D] or ``logits`` [N, K]."""
        kept = self._of_batch(images)
        if f"full {key}" not in kept:
            raise RuntimeError("the full model comes first: its features of this batch are not known yet")
        return kept[f"full {key}"]

    def end_step(self) -> None:
        """Discard the outputs for the batch."""
        self._images, self._kept = None, {}

    def move(self, fn: Callable[[Tensor], Tensor]) -> None:
        """Move the reference to another device or dtype with the model."""
        if self._reference is not None:
            self._reference._apply(fn)
        self.end_step()

    def _of_batch(self, images: Tensor) -> dict[str, Tensor]:
        if self._images is not images:  # kept outputs belong to an earlier batch
            self._images, self._kept = images, {}
        return self._kept
