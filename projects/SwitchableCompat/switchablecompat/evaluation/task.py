"""A retrieval task: its queries, its gallery, and the features of both by every sub-model.

Shapes: ``m`` sub-models, ``Nq`` queries, ``Ng`` gallery items, ``D`` dimensions. A cell ``(q, g)`` has the queries of
sub-model ``q`` and the gallery of sub-model ``g``, by index.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from ..errors import InputError
from ..widths import width_name
from .memory import roomy
from .ranking import BLOCK_BYTES, ProtocolMatches, check_features

Cell = tuple[int, int]


@dataclass(frozen=True, eq=False)
class RetrievalTask:
    """The common input of all cells of a grid. Cells are ranked on the features' device.

    Attributes:
        widths: width multipliers, ascending, ``[m]``.
        query: query features of each sub-model, ``[Nq, D]`` float32, L2-normalised by the caller, all on one device.
        gallery: gallery features of each sub-model, ``[Ng, D]``, the same.
        matches: positives and junk, from the labels.
        dataset: name of the data set.
        undefined: cells that the method does not define; they are not ranked.
        metadata: metadata for the grid, see :class:`~.grid.CompatibilityGrid`.
        block_bytes: bound on the extra memory, see :func:`~.ranking.rank_matches`.

    Raises:
        InputError: features do not fit the labels or each other, or are not finite; names the sub-model.
    """

    widths: Sequence[float]
    query: Sequence[Tensor]
    gallery: Sequence[Tensor]
    matches: ProtocolMatches
    dataset: str = ""
    undefined: Collection[Cell] = frozenset()
    metadata: Mapping[str, Any] = field(default_factory=dict)
    block_bytes: int = BLOCK_BYTES

    def __post_init__(self) -> None:
        numbers = self.matches.num_queries, self.matches.num_gallery
        for side, features, number in zip(("query", "gallery"), (self.query, self.gallery), numbers, strict=True):
            if len(features) != len(self.widths):
                rule = f"must be given for each of the {len(self.widths)} widths"
                raise InputError(f"{side} features", rule, len(features))
            for width, values in zip(self.widths, features, strict=True):
                check_features(f"{width_name(width)} {side}", values, number)

    @classmethod
    def of_images(
        cls,
        widths: Sequence[float],
        features: Sequence[Tensor],
        labels: Sequence[Tensor],
        query: slice | Tensor,
        gallery: slice | Tensor,
        **others: Any,
    ) -> RetrievalTask:
        """Make a task from one list of images that holds both queries and gallery.

        Args:
            widths: width multipliers, ascending.
            features: features of each sub-model, ``[N, D]``, as :func:`normalised` returns them.
            labels: identities and cameras, ``[N]`` each.
            query: indices of the queries.
            gallery: indices of the gallery items.
            **others: further attributes of the class.
        """
        matches = ProtocolMatches(*(of[side] for of in labels for side in (query, gallery)))
        asking, searched = ([values[side] for values in features] for side in (query, gallery))
        return cls(widths, asking, searched, matches, **others)

    @property
    def cells(self) -> list[Cell]:
        """The defined cells, row by row."""
        every = range(len(self.widths))
        return [(q, g) for q in every for g in every if (q, g) not in self.undefined]


def normalised(features: Sequence[Tensor]) -> list[Tensor]:
    """L2-normalise features ``[N, D]``, on their device or, if it has no room for a copy, on the CPU."""
    device = roomy(features[0].device, sum(values.nbytes for values in features))
    return [F.normalize(values.to(device)) for values in features]


def undefined_cells(
    widths: Sequence[float], undefined: Collection[tuple[float, float]], *, diagonal_only: bool = False
) -> frozenset[Cell]:
    """Cells by index, from pairs of (query width, gallery width); all cross-tests with ``diagonal_only``.

    Raises:
        InputError: no sub-model has such a width, or no cell is left.
    """
    names = [width_name(width) for width in widths]
    cells = {*itertools.permutations(range(len(names)), 2)} if diagonal_only else set()
    for pair in undefined:
        if unknown := [width for width in pair if width_name(width) not in names]:
            raise InputError("undefined cell", f"must be of the widths {list(widths)}", unknown[0])
        query, gallery = (names.index(width_name(width)) for width in pair)
        cells.add((query, gallery))
    if len(cells) == len(names) ** 2:
        raise InputError("undefined cells", "must leave a cell to evaluate", f"all {len(cells)}")
    return frozenset(cells)
