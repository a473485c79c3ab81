"""Gradient projection in Gram form: from inner products of gradients to weights of gradients.

PCGrad (Yu et al., "Gradient Surgery for Multi-Task Learning", NeurIPS 2020, Algorithm 1): for each i start from
v = g_i and, for the others j in random order, if v.g_j < 0 subtract (v.g_j / ||g_j||^2) g_j; the result is sum_i v_i.
Targets are the original g_j, v is updated in sequence. Writing v_i = sum_k C_ik g_k, every product v_i.g_j is
C_i . G[:, j] with G = J J^T, so no projected copy of a gradient is ever made.

With *pairwise support* inner product, norm and projection of (i, j) are restricted to the parameters that both
sub-models own. Sub-models are nested, so this region is the smaller one's; g_k enters v_i restricted to the region of
min(i, k), and the products needed are those over the region of min(i, j, k).

PCGrad does not depend on the norm of g_j. A gradient whose loss has a tiny factor would still remove the whole
conflicting part from all others. Here v gives up only a *share* Y_ij in [0, 1] of the conflicting part (ours, see
:func:`yields`): v <- v - Y_ij (v.g_j / ||g_j||^2) g_j. Y = 1 gives PCGrad.

Shape shorthand: m sub-models (in order of width), R shells (shell r: the elements owned by sub-model r but not by r-1).
"""

import torch
from torch import Tensor


def random_orders(m: int, generator: torch.Generator) -> Tensor:
    """A random order of the other sub-models for each sub-model, int64 [m, m - 1]."""
    orders = [[j for j in torch.randperm(m, generator=generator).tolist() if j != i] for i in range(m)]
    return torch.tensor(orders, dtype=torch.int64).view(m, m - 1)


def yields(factors: Tensor) -> Tensor:
    """Share of a conflicting part that sub-model i gives up to j, min(1, f_j / f_i): [..., m] to [..., m, m].

    Equal factors f >= 0 of the losses give PCGrad. A factor of zero for j equals leaving j out. The share changes
    continuously in between.
    """
    own, other = factors.unsqueeze(-1), factors.unsqueeze(-2)
    return torch.where(own > other, other / own.clamp_min(1e-300), (other > 0).to(factors.dtype))


def projection_coefficients(grams: Tensor, orders: Tensor, shares: Tensor | None = None) -> Tensor:
    """Coefficients C of the projected gradients, v_i = sum_k C_ik g_k, [..., m, m].

    Gradients of norm zero cause no projection.

    Args:
        grams: [..., m, m, m] float64. ``grams[..., i, :, :]`` contains the inner products for v_i.
        orders: [m, m - 1], order in which v_i meets the others.
        shares: Y, [..., m, m]. Default: 1.
    """
    m = grams.shape[-1]
    coefficients = torch.eye(m, dtype=grams.dtype, device=grams.device).expand(*grams.shape[:-3], m, m).clone()
    for others in orders.T.tolist():  # all v_i meet their next g_j at once: few kernels for a GPU to launch
        pairs = list(enumerate(others))
        products = (coefficients * torch.stack([grams[..., i, :, j] for i, j in pairs], dim=-2)).sum(dim=-1)
        norms = torch.stack([grams[..., i, j, j] for i, j in pairs], dim=-1)
        given_up = torch.where((products < 0) & (norms > 0), products / norms.clamp_min(1e-300), 0.0)
        if shares is not None:
            given_up = given_up * torch.stack([shares[..., i, j] for i, j in pairs], dim=-1)
        for i, j in pairs:
            coefficients[..., i, j].sub_(given_up[..., i])
    return coefficients


def full_grams(shell_grams: Tensor) -> Tensor:
    """Inner products over all parameters for every v_i: [..., R, m, m] to [..., m, m, m]."""
    total = shell_grams.sum(dim=-3)
    m = total.shape[-1]
    return total.unsqueeze(-3).expand(*total.shape[:-2], m, m, m)


def pairwise_grams(shell_grams: Tensor) -> Tensor:
    """Inner products over common parameters, [..., m, m, m]: entry [i, k, j] over the region of min(i, j, k)."""
    m = shell_grams.shape[-1]
    regions = shell_grams.cumsum(dim=-3)
    i, k, j = torch.meshgrid(*(torch.arange(m, device=regions.device),) * 3, indexing="ij")
    return regions[..., torch.minimum(torch.minimum(i, j), k), k, j]


def full_weights(coefficients: Tensor, shells: int) -> Tensor:
    """Weights of the gradients in sum_i v_i, the same in every shell: [..., m, m] to [..., R, m]."""
    weights = coefficients.sum(dim=-2)
    return weights.unsqueeze(-2).expand(*weights.shape[:-1], shells, weights.shape[-1])


def pairwise_weights(coefficients: Tensor) -> Tensor:
    """Weights for pairwise support, [..., m, m] to [..., m, m]. In shell r only v_i with i >= r have elements."""
    return coefficients.flip(-2).cumsum(dim=-2).flip(-2)


def conflict_counts(grams: Tensor, part: Tensor, parts: int) -> Tensor:
    """Pairs with a negative inner product, and all pairs of non-zero gradients, [2, parts].

    Groups have Gram matrices [groups, m, m], and each belongs to a part of the network, int64 [groups].
    """
    rows, columns = torch.triu_indices(grams.shape[-1], grams.shape[-1], offset=1, device=grams.device)
    there = grams.diagonal(dim1=-2, dim2=-1) > 0
    pairs = (there[:, rows] & there[:, columns]).sum(dim=1)
    negative = (grams[:, rows, columns] < 0).sum(dim=1)
    return grams.new_zeros(2, parts).index_add_(1, part, torch.stack((negative, pairs)).to(grams.dtype))


def conflict_rates(counts: Tensor) -> Tensor:
    """Share of conflicting pairs from :func:`conflict_counts` [2, ...]; 0 where there is no pair."""
    return counts[0] / counts[1].clamp_min(1)


def cosines(gram: Tensor) -> Tensor:
    """Pairwise cosines from Gram matrices [..., m, m]; 0 where a gradient is zero."""
    norms = gram.diagonal(dim1=-2, dim2=-1).clamp_min(0).sqrt()
    scale = norms.unsqueeze(-1) * norms.unsqueeze(-2)
    return torch.where(scale > 0, gram / scale.clamp_min(1e-300), 0.0)
