"""FastReID's cross-entropy and triplet loss without their questions to the device: the same values, bit for bit.

FastReID counts the images with a loss (``nonzero``) and asks whether a loss is infinite (``if``); on a GPU each of
these waits until all the work so far is done.
"""

import torch
import torch.nn.functional as F
from fastreid.modeling.losses import triplet_loss as fastreid_triplet_loss
from fastreid.modeling.losses.triplet_loss import hard_example_mining, weighted_example_mining
from fastreid.modeling.losses.utils import cosine_dist, euclidean_dist
from torch import Tensor

_MARGIN_INSTEAD = 0.3  # of the hinge that FastReID takes where the soft margin overflows


def cross_entropy_loss(logits: Tensor, labels: Tensor, epsilon: float, alpha: float = 0.2) -> Tensor:
    """Scalar cross-entropy of logits [N, K] and labels [N] int64, mean over the images whose loss is not zero.

    Label smoothing is ``epsilon``; with -1 it is ``alpha`` times the probability of the right class, as in FastReID.
    """
    smoothing: float | Tensor = epsilon
    if epsilon < 0:
        smoothing = alpha * F.softmax(logits, dim=1).gather(1, labels.unsqueeze(1))
    log_probabilities = F.log_softmax(logits, dim=1)
    with torch.no_grad():
        targets = torch.ones_like(log_probabilities)
        targets *= smoothing / (logits.size(1) - 1)
        right = torch.ones_like(targets[:, :1]) * (1 - smoothing)
        targets.scatter_(1, labels.unsqueeze(1), right)
    loss = (-targets * log_probabilities).sum(dim=1)
    return loss.sum() / torch.count_nonzero(loss.detach()).clamp_min(1)


def triplet_loss(features: Tensor, labels: Tensor, margin: float, norm_feat: bool, hard_mining: bool) -> Tensor:
    """Scalar triplet loss of features [N, D] and labels [N] int64.

    Args:
        margin: Of the hinge; 0: the soft margin, ln(1 + exp(d_ap - d_an)), or a hinge of 0.3 where that overflows.
        norm_feat: Whether distances are of normalised features.
        hard_mining: The hardest positive and negative of each image; otherwise weighted means.
    """
    if margin > 0:
        return fastreid_triplet_loss(features, labels, margin, norm_feat, hard_mining)
    distances = (cosine_dist if norm_feat else euclidean_dist)(features, features)
    same = labels.unsqueeze(1).eq(labels.unsqueeze(0)).float()
    mine = hard_example_mining if hard_mining else weighted_example_mining
    positive, negative = mine(distances, same, 1 - same)
    ones = torch.ones_like(negative)
    difference = negative - positive
    infinite = F.soft_margin_loss(difference.detach(), ones) == torch.inf
    # its gradient would be NaN, and stay so when multiplied by zero: it never sees what overflows
    soft = F.soft_margin_loss(difference.where(~infinite, 0.0), ones)
    return torch.where(infinite, F.margin_ranking_loss(negative, positive, ones, margin=_MARGIN_INSTEAD), soft)
