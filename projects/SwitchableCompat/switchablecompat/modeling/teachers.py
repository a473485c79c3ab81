"""Whose features a sub-model learns from in a step: a frozen reference's, or those of its own full model."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .reference import ReferenceModel, ReferenceSource


class Teachers:
    """The reference and the full model, as teachers of the batch in work.

    Deliberately no module: what is held here is not part of the model that holds it. It is in no state dict and no
    optimiser, no call of ``train`` or of the BN calibration reaches it, and a sub-model on its own does not have it.
    What they say is kept for one batch, so that each teacher sees it once a step, and has no graph.

    Args:
        source: Where the reference comes from; None if there is none.
    """

    def __init__(self, source: ReferenceSource | None = None) -> None:
        self.source = source
        self._reference: ReferenceModel | None = None
        self._images: Tensor | None = None
        self._kept: dict[str, Tensor] = {}

    def reference(self, device: torch.device) -> ReferenceModel:
        """The reference, loaded when first asked for; evaluation does not need its files.

        Raises:
            InputError: It cannot be loaded, or does not fit.
        """
        if self._reference is None:
            if self.source is None:
                raise RuntimeError("this model was built without a reference")
            self._reference = self.source.load().to(device)
        return self._reference

    def reference_features(self, images: Tensor) -> Tensor:
        """The reference's features [N, D] of a normalised batch."""
        kept = self._of_batch(images)
        if "reference" not in kept:
            kept["reference"] = self.reference(images.device).features(images)
        return kept["reference"]

    def keep_full(self, images: Tensor, outputs: dict[str, Tensor]) -> None:
        """Keep what the full model's head says of this batch, for the smaller sub-models."""
        kept = self._of_batch(images)
        kept.update({f"full {key}": outputs[key].detach() for key in ("neck_features", "logits")})

    def full(self, images: Tensor, key: str) -> Tensor:
        """What the full model said of this batch: ``neck_features`` [N, D] or ``logits`` [N, K]."""
        kept = self._of_batch(images)
        if f"full {key}" not in kept:
            raise RuntimeError("the full model comes first: its features of this batch are not known yet")
        return kept[f"full {key}"]

    def end_step(self) -> None:
        """Forget the batch."""
        self._images, self._kept = None, {}

    def move(self, fn: Callable[[Tensor], Tensor]) -> None:
        """Follow the model to another device or dtype."""
        if self._reference is not None:
            self._reference._apply(fn)
        self.end_step()

    def _of_batch(self, images: Tensor) -> dict[str, Tensor]:
        if self._images is not images:  # whatever was kept is of another batch
            self._images, self._kept = images, {}
        return self._kept
