"""A retrieval task: which images ask, which are searched, and the features that every sub-model has of them.

Shapes: ``m`` sub-models, ``Nq`` queries, ``Ng`` gallery items, ``D`` dimensions. A cell ``(q, g)`` has the queries of
sub-model ``q`` and the gallery of sub-model ``g``, by index.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from ..errors import InputError
from ..widths import width_name
from .memory import placed
from .ranking import BLOCK_BYTES, ProtocolMatches, check_features, similarity_buffer

Cell = tuple[int, int]


@dataclass(frozen=True, eq=False)
class RetrievalTask:
    """All that the cells of a grid have in common; they are ranked where the features are.

    Attributes:
        widths: width multipliers, ascending, ``[m]``.
        query: of each sub-model ``[Nq, D]``, float32, L2-normalised by the caller, all on one device.
        gallery: of each sub-model ``[Ng, D]``, the same.
        matches: of the labels: what is right, and what is junk.
        dataset: name of the data set.
        undefined: cells that the method does not define; they are not ranked.
        metadata: what a grid of it records, see :class:`~.grid.CompatibilityGrid`.
        block_bytes: bound on the extra memory, see :func:`~.ranking.rank_matches`.

    Raises:
        InputError: features that do not fit the labels or each other, or are not finite; the sub-model is named.
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
        sides = {
            "query": (self.query, self.matches.num_queries),
            "gallery": (self.gallery, self.matches.num_gallery),
        }
        for side, (features, number) in sides.items():
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
        """Images of one list as queries and as gallery.

        Args:
            widths: see the class, and for all that are not named here.
            features: of each sub-model ``[N, D]``, as :func:`normalised` gives them.
            labels: identities and cameras, ``[N]`` each.
            query: which images ask.
            gallery: which are searched.
        """
        matches = ProtocolMatches(*(of[side] for of in labels for side in (query, gallery)))
        asking, searched = ([values[side] for values in features] for side in (query, gallery))
        return cls(widths, asking, searched, matches, **others)

    @property
    def cells(self) -> list[Cell]:
        """The defined ones, row by row."""
        every = range(len(self.widths))
        return [(q, g) for q in every for g in every if (q, g) not in self.undefined]

    @cached_property
    def buffer(self) -> Tensor:
        """Memory for a block of similarities: what is new to a process costs a tenth of the product."""
        return similarity_buffer(self.query[0], self.matches, self.block_bytes)


def normalised(features: Sequence[Tensor]) -> list[Tensor]:
    """Features ``[N, D]`` of unit length: where they are, or on the CPU if there is no room for a copy."""
    return [F.normalize(values) for values in placed(features, features[0].device)]


def undefined_cells(
    widths: Sequence[float], undefined: Collection[tuple[float, float]], *, diagonal_only: bool = False
) -> frozenset[Cell]:
    """Cells by index, from pairs of (query width, gallery width); all cross-tests with ``diagonal_only``.

    Raises:
        InputError: a width of no sub-model, or no cell left.
    """
    names = [width_name(width) for width in widths]
    cells = {(q, g) for q in range(len(names)) for g in range(len(names)) if diagonal_only and q != g}
    for pair in undefined:
        unknown = [width for width in pair if width_name(width) not in names]
        if unknown:
            raise InputError("undefined cell", f"must be of the widths {list(widths)}", unknown[0])
        cells.add((names.index(width_name(pair[0])), names.index(width_name(pair[1]))))
    if len(cells) == len(names) ** 2:
        raise InputError("undefined cells", "must leave a cell to evaluate", f"all {len(cells)}")
    return frozenset(cells)
