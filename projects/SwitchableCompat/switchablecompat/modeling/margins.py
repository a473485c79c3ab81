"""FastReID's softmax layers with a margin, in a form for which a training step does not wait for a GPU.

FastReID's look for the rows that have a target of this process (its model parallelism). Here every row has one.
"""

from collections.abc import Callable
from typing import Any

import torch
from fastreid.layers import any_softmax
from torch import Tensor, nn


def with_margin(layer: Any, logits: Tensor, targets: Tensor | None) -> Tensor:
    """Logits [N, K] for the loss: FastReID's ``layer(logits, targets)``, of whatever class it is."""
    own = _MARGINS.get(type(layer))
    if own is None or targets is None:
        return layer(logits.clone(), targets)  # FastReID's layers work in place
    hot = torch.zeros_like(logits).scatter_(1, targets[:, None], 1.0)
    return own(logits, hot, layer.m) * layer.s


def _cosine(logits: Tensor, hot: Tensor, margin: float) -> Tensor:
    """CosFace (Wang et al., CVPR 2018, equation 4)."""
    return logits - margin * hot


def _arc(logits: Tensor, hot: Tensor, margin: float) -> Tensor:
    """ArcFace (Deng et al., CVPR 2019, equation 3)."""
    return (logits.acos() + margin * hot).cos()


def _circle(logits: Tensor, hot: Tensor, margin: float) -> Tensor:
    """Circle loss with class vectors (Sun et al., CVPR 2020, section 3)."""
    cosines = logits.detach()
    positive = (1 + margin - cosines).clamp_min(0) * (logits - (1 - margin))
    negative = (cosines + margin).clamp_min(0) * (logits - margin)
    return positive * hot + negative * (1 - hot)


_MARGINS: dict[type[nn.Module], Callable[[Tensor, Tensor, float], Tensor]] = {
    any_softmax.CosSoftmax: _cosine,
    any_softmax.ArcSoftmax: _arc,
    any_softmax.CircleSoftmax: _circle,
}
