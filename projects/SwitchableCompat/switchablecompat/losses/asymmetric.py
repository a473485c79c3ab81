"""Asymmetric metric learning (AML) as pure functions: a student's anchors against a frozen teacher's features.

Budnik & Avrithis, "Asymmetric metric learning for knowledge transfer", CVPR 2021 (arXiv 2006.16331), the losses Reg,
Contr, Contr+ (Contr and Reg) and Triplet in their asymmetric form. h(a) is the student's L2-normalised feature of an
anchor, and g(x) is the teacher's, which has no gradient:

    reg          1/2 d(h(a), g(a))^2
    contr        1/2 d(h(a), g(p))^2  +  1/2 sum_n [margin - d(h(a), g(n))]_+^2
    contr_plus   contr + reg
    triplet      [margin + D(h(a), g(p)) - D(h(a), g(n))]_+ ,  hardest p and n, D = 2 - 2 cos

d is the Euclidean distance, d^2 = 2 - 2 cos. The paper draws one positive and mines a few negatives for every anchor.
We use all images of the batch. Positives p are the *other* images of the anchor's identity; we take their mean, which
equals the formula for one positive. Negatives n are all images of other identities; we take their sum, to which images
beyond the margin add nothing. An anchor without positives has no positive term. In ``triplet`` an anchor's own teacher
feature is one of its positives, and an anchor without negatives has loss 0. The loss is the mean over all anchors of
the batch. Several processes share their teachers' features, which have no gradient, so that the loss does not depend on
how many there are.

Shape shorthand: N images, M images of all processes, D feature dimension.
"""

import torch
import torch.nn.functional as F
from fastreid.modeling.losses.utils import concat_all_gather
from fastreid.utils import comm
from torch import Tensor

from .precision import at_least_float32

KINDS = ("reg", "contr", "contr_plus", "triplet")
_SMALLEST = 1e-12  # smaller squared distances in float32 are rounding, and the slope of their square root is noise


def asymmetric_loss(student: Tensor, teacher: Tensor, labels: Tensor, *, kind: str, margin: float) -> Tensor:
    """Mean of the loss over the batch of this process: a scalar in float32 (float64 stays).

    With several processes, all of them must call this together, with batches of one size.

    Args:
        student: [N, D] features of the model in training, not normalised.
        teacher: [N, D] features of the same images by the teacher, not normalised; without gradient.
        labels: [N] int64 identities.
        kind: One of ``reg``, ``contr``, ``contr_plus``, ``triplet``.
        margin: Margin on d for ``contr`` and ``contr_plus``, on 2 - 2 cos for ``triplet``.
    """
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {KINDS}, found {kind!r}")
    with torch.autocast(student.device.type, enabled=False):
        student = at_least_float32(student)
        anchors = F.normalize(student)
        targets = F.normalize(teacher.detach().to(student.dtype))
        if kind == "reg":
            return regression(anchors, targets).mean()
        all_targets, all_labels, first = targets, labels, 0
        if comm.get_world_size() > 1:
            all_targets, all_labels = concat_all_gather(targets), concat_all_gather(labels)
            first = comm.get_rank() * len(labels)
        squared = 2 - 2 * anchors @ all_targets.T
        same = labels.unsqueeze(1) == all_labels
        if kind == "triplet":
            return hardest_triplet(squared, same, margin).mean()
        loss = contrastive(squared, same, margin, first)
        return (loss if kind == "contr" else loss + regression(anchors, targets)).mean()


def regression(anchors: Tensor, targets: Tensor) -> Tensor:
    """1/2 d(h(a), g(a))^2 = 1 - cos of each anchor, [N], from normalised features [N, D]."""
    return 1 - (anchors * targets).sum(dim=1)


def contrastive(squared: Tensor, same: Tensor, margin: float, first: int = 0) -> Tensor:
    """``contr`` of each anchor, [N], from d^2 [N, M] (anchors by teacher features) and equal identities [N, M] bool.

    The anchors' own teacher features start in column ``first``.
    """
    own = torch.ones_like(same).tril(first).triu(first)
    others = same & ~own
    attraction = (squared * others).sum(dim=1) / others.sum(dim=1).clamp_min(1)
    distance = squared.clamp_min(_SMALLEST).sqrt()
    repulsion = ((margin - distance).clamp_min(0).square() * ~same).sum(dim=1)
    return (attraction + repulsion) / 2


def hardest_triplet(squared: Tensor, same: Tensor, margin: float) -> Tensor:
    """``triplet`` of each anchor, [N]. The margin is on d^2."""
    farthest = squared.masked_fill(~same, -torch.inf).amax(dim=1)
    nearest = squared.masked_fill(same, torch.inf).amin(dim=1)
    return (margin + farthest - nearest).clamp_min(0)
