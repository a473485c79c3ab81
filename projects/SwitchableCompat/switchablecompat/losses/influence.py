"""The influence loss as a pure function: a new model learns from the frozen classifier of an old model.

Shen et al., "Towards Backward-Compatible Representation Learning", CVPR 2020 (arXiv 2003.11942), the loss L_BCT:

    L_BCT(w_c, phi) = L(w_c, phi) + lambda L(w_c_old, phi)

where phi is the new feature extractor, w_c its own classifier, w_c_old the frozen classifier of the old model, and L
the same classification loss in both terms. This module computes the second term without lambda.

Shape shorthand: N images, D feature dimension, K identities.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from .fastreid_losses import cross_entropy_loss
from .precision import at_least_float32


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

    Logits are ``scale * W phi`` or ``scale * cos``. There is no margin, because a margin serves the training of a
    classifier and this one is frozen. The scale remains, because it is part of the geometry of the class vectors.

    Args:
        features: [N, D], after the model's own BN-neck.
        labels: [N] int64, in the old classifier's order of identities.
        classifier: [K, D]; without gradient.
        cosine: Whether the classifier was trained on cosines, with a margin softmax.
        scale: Scale of the logits.
        label_smoothing: Epsilon of FastReID's label smoothing in the recipe (L is the same in both terms).
        smoothing_alpha: Alpha of FastReID's adaptive smoothing (``label_smoothing`` -1).
    """
    with torch.autocast(features.device.type, enabled=False):
        features = at_least_float32(features)
        classifier = classifier.detach().to(features.dtype)
        if cosine:
            features, classifier = F.normalize(features), F.normalize(classifier)
        logits = scale * F.linear(features, classifier)
        return cross_entropy_loss(logits, labels, label_smoothing, smoothing_alpha)
