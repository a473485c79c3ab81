"""Gradient projection on the Gram matrix alone: from inner products of gradients to weights of gradients.

PCGrad (Yu et al., "Gradient Surgery for Multi-Task Learning", NeurIPS 2020, Algorithm 1): for each i start from
v = g_i and, for the others j in random order, if v.g_j < 0 subtract (v.g_j / ||g_j||^2) g_j; the result is sum_i v_i.
Targets are the original g_j, v is updated in sequence. Writing v_i = sum_k C_ik g_k, every product v_i.g_j is
C_i . G[:, j] with G = J J^T, so no projected copy of a gradient is ever made.

With *pairwise support* inner product, norm and projection of (i, j) are restricted to the parameters that both
sub-models own. Sub-models are nested, so this region is the smaller one's; g_k enters v_i restricted to the region of
min(i, k), and the products needed are those over the region of min(i, j, k).

PCGrad does not depend on the length of its targets: a gradient whose loss counts next to nothing would still remove the
whole conflicting part of all others. Here v gives up a *share* of the conflicting part, Y_ij in [0, 1] (ours, see
:func:`yields`): v <- v - Y_ij (v.g_j / ||g_j||^2) g_j. With Y = 1 it is PCGrad.

Shape shorthand: m sub-models (in order of width), R shells (shell r: the elements owned by sub-model r but not by r-1).
"""

from __future__ import annotations

import torch
from torch import Tensor


def random_orders(m: int, generator: torch.Generator) -> Tensor:
    """For each sub-model a random order of the others, int64 [m, m - 1]."""
    orders = [[j for j in torch.randperm(m, generator=generator).tolist() if j != i] for i in range(m)]
    return torch.tensor(orders, dtype=torch.int64).view(m, m - 1)


def yields(factors: Tensor) -> Tensor:
    """Share of a conflicting part that sub-model i gives up to sub-model j: min(1, f_j / f_i).

    Equal factors give PCGrad; a factor of zero equals leaving the sub-model out; in between i never gives up more than
    what j's loss counts beside its own.

    Args:
        factors: [..., m], how much the loss of each sub-model counts; not negative.

    Returns:
        [..., m, m].
    """
    own, other = factors.unsqueeze(-1), factors.unsqueeze(-2)
    return torch.where(own > other, other / own.clamp_min(1e-300), (other > 0).to(factors.dtype))


def projection_coefficients(grams: Tensor, orders: Tensor, shares: Tensor | None = None) -> Tensor:
    """Coefficients C of the projected gradients, v_i = sum_k C_ik g_k.

    Args:
        grams: [..., m, m, m] float64; ``grams[..., i, :, :]`` holds the inner products that count for v_i.
        orders: [m, m - 1], in which order v_i meets the others.
        shares: [..., m, m], Y_ij, how much of a conflicting part v_i gives up to g_j; by default all of it.

    Returns:
        [..., m, m]. Gradients of norm zero are never projected on.
    """
    m = grams.shape[-1]
    coefficients = torch.eye(m, dtype=grams.dtype, device=grams.device).expand(*grams.shape[:-3], m, m).clone()
    for i in range(m):
        row, gram = coefficients[..., i, :], grams[..., i, :, :]
        for j in orders[i].tolist():
            product = (row * gram[..., :, j]).sum(dim=-1)
            norm = gram[..., j, j]
            given_up = torch.where((product < 0) & (norm > 0), product / norm.clamp_min(1e-300), 0.0)
            row[..., j] -= given_up if shares is None else given_up * shares[..., i, j]
    return coefficients


def full_grams(shell_grams: Tensor) -> Tensor:
    """Inner products over all parameters for every v_i: [..., R, m, m] to [..., m, m, m]."""
    total = shell_grams.sum(dim=-3)
    m = total.shape[-1]
    return total.unsqueeze(-3).expand(*total.shape[:-2], m, m, m)


def pairwise_grams(shell_grams: Tensor) -> Tensor:
    """Inner products over common parameters: entry [i, k, j] is over the region of sub-model min(i, j, k).

    Args:
        shell_grams: [..., m, m, m], one Gram matrix for each shell.
    """
    m = shell_grams.shape[-1]
    regions = shell_grams.cumsum(dim=-3)
    i, k, j = torch.meshgrid(*(torch.arange(m, device=regions.device),) * 3, indexing="ij")
    return regions[..., torch.minimum(torch.minimum(i, j), k), k, j]


def full_weights(coefficients: Tensor, shells: int) -> Tensor:
    """Weights of the gradients in sum_i v_i, the same in every shell: [..., m, m] to [..., R, m]."""
    weights = coefficients.sum(dim=-2)
    return weights.unsqueeze(-2).expand(*weights.shape[:-1], shells, weights.shape[-1])


def pairwise_weights(coefficients: Tensor) -> Tensor:
    """The same for pairwise support: in shell r only the v_i with i >= r have parts: [..., m, m] to [..., m, m]."""
    return coefficients.flip(-2).cumsum(dim=-2).flip(-2)


def conflict_rate(grams: Tensor) -> Tensor:
    """Share of pairs with a negative inner product among all pairs of gradients that are not zero, scalar.

    Args:
        grams: [..., m, m].
    """
    rows, columns = torch.triu_indices(grams.shape[-1], grams.shape[-1], offset=1, device=grams.device)
    there = grams.diagonal(dim1=-2, dim2=-1) > 0
    pairs = (there[..., rows] & there[..., columns]).sum()
    return (grams[..., rows, columns] < 0).sum().to(grams.dtype) / pairs.clamp_min(1)


def cosines(gram: Tensor) -> Tensor:
    """Pairwise cosines from Gram matrices [..., m, m]; 0 where a gradient is zero."""
    norms = gram.diagonal(dim1=-2, dim2=-1).clamp_min(0).sqrt()
    scale = norms.unsqueeze(-1) * norms.unsqueeze(-2)
    return torch.where(scale > 0, gram / scale.clamp_min(1e-300), 0.0)
