"""MGDA and CAGrad: aggregators that find the best direction for the sub-model that improves least."""

from __future__ import annotations

import torch
from torch import Tensor

from .aggregators import WholeAggregator, present
from .quadratic import simplex_minimum

_ROUNDS = 200  # maximum number; the radius converges linearly, more slowly for a larger c
_RESOLUTION = 1e-5  # relative to the norm of the largest gradient: the square root of the quadratic program's ridge


class MGDA(WholeAggregator):
    """The shortest convex combination of the gradients, times their number.

    Désidéri, "Multiple-gradient descent algorithm", C. R. Math. 2012; Sener & Koltun, NeurIPS 2018 (equation 3).
    Gradients of norm zero are ignored. That of a frozen or private group would otherwise make the result zero.
    """

    def group_weights(self, grams: Tensor, generator: torch.Generator) -> Tensor:
        there = present(grams)
        return simplex_minimum(grams, grams.new_zeros(grams.shape[:-1]), there) * there.sum(dim=-1, keepdim=True)


class CAGrad(WholeAggregator):
    """Conflict-averse gradient descent: the best worst-case direction in a ball around the mean gradient, times the
    number of gradients.

    Liu et al., "Conflict-Averse Gradient Descent for Multi-task Learning", NeurIPS 2021 (Algorithm 1): with the mean g0
    and g_w = sum_i w_i g_i, minimise g_w.g0 + c ||g0|| ||g_w|| over the simplex; the update is
    g0 + c ||g0|| / ||g_w|| g_w. The norm is the minimum over r of ||g_w||^2 / (2 r) + r / 2, which is jointly convex.
    Alternating between r and a quadratic program in w therefore finds the minimum. The result is divided by 1 + c (the
    authors' second way of rescaling), so that gradients that agree are summed.

    Args:
        c: Radius of the ball relative to ||g0||, in [0, 1). With 0 the result is the plain sum.
    """

    def __init__(self, c: float = 0.4) -> None:
        if not 0 <= c < 1:
            raise ValueError(f"c must be in [0, 1), found {c}")
        self.c = c

    def group_weights(self, grams: Tensor, generator: torch.Generator) -> Tensor:
        there = present(grams)
        count = there.sum(dim=-1, keepdim=True)
        mean = there.to(grams.dtype) / count.clamp_min(1)
        if self.c == 0:
            return mean * count
        towards_mean = (grams @ mean.unsqueeze(-1)).squeeze(-1)
        mean_norm = _norm(grams, mean)
        largest = grams.diagonal(dim1=-2, dim2=-1).amax(dim=-1, keepdim=True).clamp_min(0).sqrt()
        smallest = _RESOLUTION * largest
        # in units of c ||g0||, so that the quadratic part keeps its size when the mean is small
        linear = towards_mean / (self.c * mean_norm.clamp_min(smallest.clamp_min(1e-300)))
        norm = mean_norm
        for _ in range(_ROUNDS):
            before = norm
            w = simplex_minimum(grams, linear * norm.clamp_min(smallest), there)
            norm = _norm(grams, w)
            if torch.allclose(norm, before, rtol=1e-10, atol=0):
                break
        # If no direction improves all sub-models, use the mean.
        step = (self.c * mean_norm / norm.where(norm > smallest, 1.0)).where(norm > smallest, 0.0)
        return (mean + step * w) * count / (1 + self.c)


def _norm(grams: Tensor, w: Tensor) -> Tensor:
    """Norm of sum_i w_i g_i, [..., 1]."""
    return ((grams @ w.unsqueeze(-1)).squeeze(-1) * w).sum(dim=-1, keepdim=True).clamp_min(0).sqrt()
