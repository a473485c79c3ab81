"""Several random galleries with one image per identity: the protocol of VehicleID.

VehicleID's test lists do not say which images form the gallery. One image of each identity is drawn, all others are
queries, and results are means over several draws (Liu et al., "Deep Relative Distance Learning", CVPR 2016; FastReID's
model zoo uses ten). FastReID itself draws once per evaluation, from the current state of its random generator.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError
from .grid import METRICS, CompatibilityGrid


def draw_gallery(pids: np.ndarray, seed: int) -> tuple[Tensor, Tensor]:
    """Indices of the queries and of the gallery, both ascending, from the identities ``[N]`` of all test images."""
    order = np.random.default_rng(seed).permutation(len(pids))
    _, first = np.unique(pids[order], return_index=True)
    gallery = np.sort(order[first])
    return torch.from_numpy(np.setdiff1d(np.arange(len(pids)), gallery)), torch.from_numpy(gallery)


def check_drawable(gallery_pids: Sequence[int], dataset: str) -> None:
    """Reject draws from a data set with a fixed split, that is, whose gallery is not one image per identity."""
    if len({*gallery_pids}) < len(gallery_pids):
        rule = "must be 1 for a data set whose gallery has several images of an identity: its split is given"
        raise InputError("TEST.GALLERY_DRAWS", rule, dataset)


def mean_grid(grids: Sequence[CompatibilityGrid]) -> CompatibilityGrid:
    """Mean of every cell over grids of the same size, with the metadata of the first.

    A cell that is undefined in any grid is undefined in the mean. Refined grids are averaged in the same way.
    """
    first = grids[0]
    size = range(len(first.widths))
    values = {
        m: tuple(tuple(_mean([grid.values[m][q][g] for grid in grids]) for g in size) for q in size) for m in METRICS
    }
    mean = replace(first, values=values, metadata={**first.metadata, "gallery_draws": len(grids)})
    refined = [grid.refined for grid in grids if grid.refined is not None]
    return mean.with_refined(mean_grid(refined)) if refined else mean


def _mean(cells: Sequence[float | None]) -> float | None:
    defined = [value for value in cells if value is not None]
    return float(np.mean(defined)) if len(defined) == len(cells) else None
