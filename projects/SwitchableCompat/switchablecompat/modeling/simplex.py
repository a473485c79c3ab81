"""Fixed class vectors: the vertices of a regular simplex."""

import torch
from torch import Tensor


def regular_simplex(classes: int, dimension: int) -> Tensor:
    """``classes`` unit vectors of ``dimension`` elements with equal pairwise cosines, -1 / (classes - 1), float32.

    The classifier of Pernici et al., "Regular Polytope Networks", TNNLS 2021, used for compatible features by Biondi et
    al., "CoReS", TPAMI 2023: models trained with the same fixed vectors are compatible, even if they are trained
    separately. A regular simplex of K >= 2 vertices needs D >= K - 1 dimensions.
    """
    if classes < 2 or dimension < classes - 1:
        raise ValueError(f"a regular simplex of {classes} vertices needs {classes - 1} dimensions, found {dimension}")
    # Helmert's contrasts: column i is (1, ..., 1, -i, 0, ...) with i ones, of length 1. The columns are orthogonal to
    # each other and to (1, ..., 1), so that the rows have the angles of a simplex: a closed form, the same everywhere.
    i = torch.arange(1, classes, dtype=torch.float64)
    contrasts = torch.ones(classes, classes - 1, dtype=torch.float64).triu() - torch.diag_embed(i, offset=-1)[:, :-1]
    vertices = contrasts / (i * (i + 1)).sqrt() * (classes / (classes - 1)) ** 0.5
    return torch.cat((vertices, vertices.new_zeros(classes, dimension - classes + 1)), dim=1).float()
