"""Brings the norms of the sub-models' gradients to one scale.

The gradients of cold sub-models are much longer than those of a pretrained full model. In a plain sum they alone decide
where shared parameters move, and projection, which looks at directions, leaves that as it is.
"""

import torch
from torch import Tensor

SCALES = ("harmonic", "rms", "full")
OVER = ("group", "network")


class NormBalance:
    """Factors that give all gradients of a group a common norm.

    Args:
        scale: The common norm, from the norms of the sub-models that train the group. ``harmonic``: their harmonic
            mean. ``rms``: their root mean square, so that unrelated gradients keep the norm of their sum. ``full``: the
            norm of the full model's gradient.
        over: Where norms are measured: in each ``group``, or over the whole ``network``.
        memory: Weight of the past in the running mean of the squared norms, in [0, 1).

    Attributes:
        squares: Running mean of the squared norms, [groups, m] or [1, m]; belongs into checkpoints.
    """

    def __init__(self, scale: str, over: str, memory: float) -> None:
        self.scale, self.over, self.memory = scale, over, memory
        self.squares: Tensor | None = None

    def __call__(self, grams: Tensor, factors: Tensor) -> Tensor:
        """Factors [groups, m] or [1, m], 1 where a gradient is zero.

        Args:
            grams: Gram matrices of the groups, [groups, m, m] float64.
            factors: [m], the factors of the losses, which the gradients contain. They keep their effect.
        """
        squares = grams.diagonal(dim1=-2, dim2=-1) / factors.square().where(factors > 0, 1.0)
        if self.over == "network":
            squares = squares.sum(dim=0, keepdim=True)
        norms = self._remember(squares).sqrt()
        there = norms > 0
        count = there.sum(dim=-1, keepdim=True).clamp_min(1)
        if self.scale == "harmonic":
            common = count / norms.reciprocal().where(there, 0.0).sum(dim=-1, keepdim=True)
        elif self.scale == "rms":
            common = (norms.square().sum(dim=-1, keepdim=True) / count).sqrt()
        else:
            common = norms[..., -1:]
        return (common / norms).where(there & (common > 0) & common.isfinite(), 1.0)

    def _remember(self, squares: Tensor) -> Tensor:
        """Update the running mean with this batch, without what overflowed or took no part."""
        before = torch.zeros_like(squares) if self.squares is None else self.squares.to(squares)
        share = torch.where(before > 0, 1.0 - self.memory, 1.0)
        self.squares = before + share * (squares - before).where(squares.isfinite() & (squares > 0), 0.0)
        return self.squares
