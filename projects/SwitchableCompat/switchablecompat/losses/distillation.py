"""In-place distillation as pure functions: a sub-model learns from the full model's output for the same batch.

Yu & Huang, "Universally Slimmable Networks and Improved Training Techniques", ICCV 2019, section 3.3. The version for
features is ``reg`` of the asymmetric loss. Use it in addition to a loss on the shared classifier, because soft labels
alone do not align feature spaces.

    logits       T^2 KL( softmax(z_full / T) || softmax(z / T) )
    features     1 - cos(phi, phi_full)

Both are means over the batch, in float32 (float64 stays). The full model gets no gradient from them.

Shape shorthand: N images, D feature dimension, K classes.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from .asymmetric import regression
from .precision import at_least_float32

KINDS = ("logits", "features")


def distillation_loss(student: Tensor, teacher: Tensor, *, kind: str, temperature: float = 1.0) -> Tensor:
    """Mean of the loss over the batch, scalar.

    Args:
        student: [N, K] logits or [N, D] features of the sub-model, as ``kind`` says.
        teacher: Those of the full model, of the same shape.
        kind: ``logits`` or ``features``.
        temperature: T; only for ``logits``.
    """
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {KINDS}, found {kind!r}")
    with torch.autocast(student.device.type, enabled=False):
        student = at_least_float32(student)
        teacher = teacher.detach().to(student.dtype)
        if kind == "features":
            return regression(F.normalize(student), F.normalize(teacher)).mean()
        log_p, log_q = (F.log_softmax(x / temperature, dim=1) for x in (teacher, student))
        return F.kl_div(log_q, log_p, reduction="batchmean", log_target=True) * temperature**2
