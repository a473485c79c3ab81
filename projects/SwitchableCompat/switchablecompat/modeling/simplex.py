"""Class vectors that nobody trains: the vertices of a regular simplex."""

from __future__ import annotations

import torch
from torch import Tensor


def regular_simplex(classes: int, dimension: int) -> Tensor:
    """``classes`` unit vectors of ``dimension`` elements with equal pairwise cosines, -1 / (classes - 1), float32.

    The classifier of Pernici et al., "Regular Polytope Networks", TNNLS 2021, used for compatible features by Biondi et
    al., "CoReS", TPAMI 2023: models that meet the same fixed vectors are compatible without meeting each other.

    Args:
        classes: K, at least 2.
        dimension: D; a regular simplex of K vertices needs D >= K - 1.
    """
    if classes < 2 or dimension < classes - 1:
        raise ValueError(f"a regular simplex of {classes} vertices needs {classes - 1} dimensions, found {dimension}")
    # Rows of the centring matrix I - 1/K have the right angles and lie in K - 1 dimensions: express them there.
    centred = torch.eye(classes, dtype=torch.float64) - 1.0 / classes
    values, vectors = torch.linalg.eigh(centred)
    vertices = vectors[:, 1:] * values[1:].sqrt()
    vertices = vertices / vertices.norm(dim=1, keepdim=True)
    return torch.cat((vertices, vertices.new_zeros(classes, dimension - classes + 1)), dim=1).float()
