"""The compatibility grid from features that several models, or one switchable model, gave for the same images."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from ..errors import InputError
from ..settings import check_comparable
from ..widths import width_name
from .cells import QueryResults, rank_cells
from .grid import Cell, CompatibilityGrid, grid_from_cells
from .refinement import Refinement, refine_cells, with_refined_cells


@dataclass(frozen=True, eq=False)
class Member:
    """One sub-model of the grid.

    Attributes:
        width: its width multiplier.
        features: of the queries, then of the gallery, ``[Nq + Ng, D]``, float32, of any length.
        source: what to call it in messages: its checkpoint or folder.
        family: digest of the model that it belongs to.
    """

    width: float
    features: Tensor
    source: str
    family: str


def cross_test(
    members: Sequence[Member],
    pids: Tensor,
    camids: Tensor,
    num_query: int,
    dataset: str,
    *,
    undefined: Collection[tuple[float, float]] = (),
    diagonal_only: bool = False,
    refinement: Refinement | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> tuple[CompatibilityGrid, QueryResults]:
    """Run all self-tests and cross-tests between the members.

    Args:
        members: at least one, in any order.
        pids: identities of the queries, then of the gallery, ``[Nq + Ng]``.
        camids: their cameras, ``[Nq + Ng]``.
        num_query: Nq.
        dataset: name of the data set.
        undefined: cells that the method does not define, as (query width, gallery width).
        diagonal_only: only the self-tests are defined: the members do not share a feature space.
        refinement: what the grid's :attr:`~.grid.CompatibilityGrid.refined` cells are, if there are to be any.
        metadata: see :class:`~.grid.CompatibilityGrid`; ``family`` (and ``families``, if there are several) are added.

    Raises:
        InputError: a width that two members claim, different dimensions, an undefined cell of no member, or features
            and labels that do not fit.
    """
    members = sorted(members, key=lambda member: member.width)
    check_members(members)
    widths = [member.width for member in members]
    skipped = undefined_cells(widths, undefined, diagonal_only=diagonal_only)
    values = [F.normalize(member.features) for member in members]
    inputs = (
        [value[:num_query] for value in values],
        [value[num_query:] for value in values],
        pids[:num_query],
        pids[num_query:],
        camids[:num_query],
        camids[num_query:],
        widths,
    )
    cells = rank_cells(*inputs, undefined=skipped)
    families = {width_name(member.width): member.family for member in members}
    family = joint_family(families.values())
    metadata = {**(metadata or {}), "family": family}
    if len({*families.values()}) > 1:
        metadata["families"] = families
    grid = grid_from_cells(cells, widths, dataset, metadata=metadata)
    if refinement:
        grid = with_refined_cells(grid, refine_cells(*inputs, refinement, undefined=skipped), refinement)
    return grid, QueryResults.from_cells(cells, widths, family)


def check_members(members: Sequence[Member]) -> None:
    """Refuse members, in order of width, that cannot stand in one grid."""
    for first, second in itertools.pairwise(members):
        if width_name(first.width) == width_name(second.width):
            raise InputError(f"width {second.width}", "must come from one model", f"{first.source} and {second.source}")
    check_comparable(*((member.source, {"dimension": member.features.shape[1]}) for member in members))


def undefined_cells(
    widths: Sequence[float], undefined: Collection[tuple[float, float]], *, diagonal_only: bool = False
) -> set[Cell]:
    """Cells ``(q, g)`` by index, from pairs of (query width, gallery width)."""
    names = [width_name(width) for width in widths]
    cells = {(q, g) for q in range(len(names)) for g in range(len(names)) if diagonal_only and q != g}
    for pair in undefined:
        unknown = [width for width in pair if width_name(width) not in names]
        if unknown:
            raise InputError("undefined cell", f"must be of the widths {list(widths)}", unknown[0])
        cells.add((names.index(width_name(pair[0])), names.index(width_name(pair[1]))))
    if len(cells) == len(names) ** 2:
        raise InputError("undefined cells", "must leave a cell to evaluate", f"all {len(cells)}")
    return cells


def joint_family(families: Collection[str]) -> str:
    """One digest for a set of models: their own if they agree, else the digest of the sorted list."""
    distinct = sorted({*families})
    if len(distinct) == 1:
        return distinct[0]
    return f"sha256:{hashlib.sha256(chr(10).join(distinct).encode()).hexdigest()}"
