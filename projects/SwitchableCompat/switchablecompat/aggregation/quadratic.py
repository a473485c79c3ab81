"""Small convex quadratic programs. One batched solve tries every possible set of positive variables.

For the few sub-models of a switchable network (m = 8 gives 256 systems of 8 equations), this needs neither a solver
library nor iterations. If gradients are linearly dependent, a ridge of 1e-10 relative to the diagonal selects one
minimiser.

Shape shorthand: m variables, leading dimensions are independent problems.
"""

from __future__ import annotations

import torch
from torch import Tensor

_RIDGE = 1e-10


def subsets(m: int, device: torch.device | None = None) -> Tensor:
    """All subsets of m elements as rows of bool, [2^m, m]; the first is empty."""
    numbers = torch.arange(2**m, device=device).unsqueeze(1)
    return (numbers >> torch.arange(m, device=device)) & 1 == 1


def simplex_minimum(Q: Tensor, b: Tensor, allowed: Tensor) -> Tensor:
    """Minimiser of w'Qw/2 + b'w subject to w >= 0, sum w = 1, and w = 0 where not allowed.

    Args:
        Q: [..., m, m], positive semi-definite.
        b: [..., m].
        allowed: [..., m] bool. If a problem allows no variable, its result is zero.

    Returns:
        [..., m].
    """
    m = Q.shape[-1]
    sets = subsets(m, Q.device)[1:]  # [S, m]
    Q, b = _scaled(Q, b)
    kkt = Q.new_zeros(*Q.shape[:-2], len(sets), m + 1, m + 1)
    kkt[..., :m, :m] = _restricted(Q, sets)
    kkt[..., :m, m] = kkt[..., m, :m] = sets.to(Q.dtype)
    right = torch.cat((-b.unsqueeze(-2) * sets, b.new_ones(*b.shape[:-1], len(sets), 1)), dim=-1)
    w = torch.linalg.solve(kkt, right)[..., :m]
    feasible = (w >= 0).all(dim=-1) & (allowed.unsqueeze(-2) | ~sets).all(dim=-1)
    return _best(Q, b, w, feasible) * allowed.any(dim=-1, keepdim=True)


def orthant_minimum(Q: Tensor, b: Tensor) -> Tensor:
    """Minimiser of v'Qv/2 + b'v subject to v >= 0; shapes as in :func:`simplex_minimum`.

    The problem is scaled to a unit diagonal, so that gradients of very different norms keep their precision.
    """
    sets = subsets(Q.shape[-1], Q.device)
    scale = Q.diagonal(dim1=-2, dim2=-1).clamp_min(0).sqrt()
    scale = torch.where(scale > 0, scale, 1.0)
    Q, b = Q / (scale.unsqueeze(-1) * scale.unsqueeze(-2)), b / scale
    v = torch.linalg.solve(_restricted(Q, sets), -b.unsqueeze(-2) * sets)
    return _best(Q, b, v, (v >= 0).all(dim=-1)) / scale


def _scaled(Q: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Scale the problem to entries of ordinary size; a common factor does not change the minimiser."""
    largest = Q.diagonal(dim1=-2, dim2=-1).amax(dim=-1)
    scale = torch.where(largest > 0, largest, 1.0)
    return Q / scale[..., None, None], b / scale[..., None]


def _restricted(Q: Tensor, sets: Tensor) -> Tensor:
    """For each subset, Q within the subset and the identity outside: [..., S, m, m]."""
    inside = sets.unsqueeze(-1) & sets.unsqueeze(-2)
    eye = torch.eye(Q.shape[-1], dtype=Q.dtype, device=Q.device)
    return torch.where(inside, Q.unsqueeze(-3) + _RIDGE * eye, eye * ~sets.unsqueeze(-1))


def _best(Q: Tensor, b: Tensor, candidates: Tensor, feasible: Tensor) -> Tensor:
    """The feasible candidate [..., S, m] with the smallest value; zeros if there is none."""
    value = 0.5 * torch.einsum("...si,...ij,...sj->...s", candidates, Q, candidates)
    value = value + (candidates * b.unsqueeze(-2)).sum(dim=-1)
    best = value.masked_fill(~feasible, torch.inf).argmin(dim=-1)
    chosen = candidates.gather(-2, best[..., None, None].expand(*best.shape, 1, candidates.shape[-1])).squeeze(-2)
    return torch.where(feasible.any(dim=-1, keepdim=True), chosen, 0.0)
