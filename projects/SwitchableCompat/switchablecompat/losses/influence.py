"""The influence loss as a pure function: a new model learns from the frozen classifier of an old model.

Shen et al., "Towards Backward-Compatible Representation Learning", CVPR 2020 (arXiv 2003.11942), the loss L_BCT:

    L_BCT(w_c, phi) = L(w_c, phi) + lambda L(w_c_old, phi)

where phi is the new feature extractor, w_c its own classifier, w_c_old the frozen classifier of the old model, and L
the same classification loss in both terms. This module computes the second term without lambda.

Shape shorthand: N images, D feature dimension, K identities.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .fastreid_losses import cross_entropy_loss
from .precision import at_least_float32


def old_logits(features: Tensor, classifier: Tensor, *, cosine: bool, scale: float) -> Tensor:
    """Logits of the old classifier for new features, [N, K], without a margin.

    There is no margin, because a margin serves the training of a classifier and this one is frozen. The scale remains,
    because it is part of the geometry of the class vectors. Logits are ``scale * W phi``, or ``scale * cos`` for a
    classifier that was trained with a margin softmax.

    Args:
        features: [N, D], after the model's own BN-neck.
        classifier: [K, D].
        cosine: Whether the classifier was trained on cosines.
        scale: Scale of the logits.
    """
    if cosine:
        features, classifier = F.normalize(features), F.normalize(classifier)
    return scale * F.linear(features, classifier)


def influence_loss(
    features: Tensor,
    labels: Tensor,
    classifier: Tensor,
    *,
    cosine: bool = False,
    scale: float = 1.0,
    label_smoothing: float = 0.0,
    smoothing_alpha: float = 0.2,
) -> Tensor:
    """Cross-entropy of new features with the old classifier: the mean over the batch, a float32 scalar.

    Args:
        features: [N, D], after the model's own BN-neck.
        labels: [N] int64, in the old classifier's order of identities.
        classifier: [K, D]; without gradient.
        cosine: As in :func:`old_logits`.
        scale: As in :func:`old_logits`.
        label_smoothing: Epsilon of FastReID's label smoothing in the recipe (L is the same in both terms).
        smoothing_alpha: Alpha of FastReID's adaptive smoothing (``label_smoothing`` -1).
    """
    with torch.autocast(features.device.type, enabled=False):
        features = at_least_float32(features)
        logits = old_logits(features, classifier.detach().to(features.dtype), cosine=cosine, scale=scale)
        return cross_entropy_loss(logits, labels, label_smoothing, smoothing_alpha)
