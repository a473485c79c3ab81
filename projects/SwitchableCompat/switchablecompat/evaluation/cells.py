"""Rankings of every (query sub-model, gallery sub-model) pair, and the file that keeps them query by query.

Shapes: ``m`` sub-models, ``Nq`` queries, ``Ng`` gallery items, ``D`` dimensions.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from ..errors import InputError
from ..files import atomic_write
from ..widths import width_name
from .ranking import (
    BLOCK_BYTES,
    Labels,
    ProtocolMatches,
    RankingResult,
    check_features,
    rank_matches,
    similarity_buffer,
)

QUERIES_FORMAT = 1

Cells = list[list[RankingResult | None]]


def rank_cells(
    query_features: Sequence[Tensor | None],
    gallery_features: Sequence[Tensor | None],
    query_pids: Labels,
    gallery_pids: Labels,
    query_camids: Labels,
    gallery_camids: Labels,
    widths: Sequence[float],
    *,
    undefined: Collection[tuple[int, int]] = (),
    block_bytes: int = BLOCK_BYTES,
) -> Cells:
    """Rank every gallery sub-model for every query sub-model.

    Args:
        query_features: per width ``[Nq, D]``, float32, L2-normalised by the caller; ``None`` = this sub-model is never
            used for queries, its row is not defined.
        gallery_features: per width ``[Ng, D]``, the same for the gallery and the columns.
        query_pids: identities of the queries, ``[Nq]``.
        gallery_pids: identities of the gallery items, ``[Ng]``.
        query_camids: cameras of the queries, ``[Nq]``.
        gallery_camids: cameras of the gallery items, ``[Ng]``.
        widths: width multipliers, ascending.
        undefined: cells ``(q, g)`` that the method does not define; they are not ranked.
        block_bytes: see :func:`~switchablecompat.evaluation.ranking.rank_queries`.

    Returns:
        ``[m][m]``, rows = query sub-model; ``None`` where a cell is not defined.

    Raises:
        InputError: on features that do not fit the labels or each other, naming the sub-model.
    """
    for side, features in (("query", query_features), ("gallery", gallery_features)):
        if len(features) != len(widths):
            raise InputError(f"{side} features", f"must be given for each of the {len(widths)} widths", len(features))
    matches = ProtocolMatches(query_pids, gallery_pids, query_camids, gallery_camids)
    for width, query, gallery in zip(widths, query_features, gallery_features, strict=True):
        if query is not None:
            check_features(f"{width_name(width)} query", query, matches.num_queries)
        if gallery is not None:
            check_features(f"{width_name(width)} gallery", gallery, matches.num_gallery)
    cells: Cells = [[None] * len(widths) for _ in widths]
    buffer = None
    for q, query in enumerate(query_features):
        for g, gallery in enumerate(gallery_features):
            if query is not None and gallery is not None and (q, g) not in undefined:
                buffer = similarity_buffer(query, matches, block_bytes) if buffer is None else buffer
                cells[q][g] = rank_matches(query, gallery, matches, block_bytes=block_bytes, buffer=buffer)
    return cells


@dataclass(frozen=True, eq=False)
class QueryResults:
    """What each query met in each cell; the content of ``queries.npz``.

    Attributes:
        widths: width multipliers, ``[m]``.
        defined: whether the method defines the cell, ``[m, m]`` bool, rows = query sub-model.
        first_hit_rank: rank of the best match, from 1, ``[m, m, Nq]`` int32; 0 for a query without a match in the
            gallery, and in cells that are not defined.
        average_precision: in [0, 1], ``[m, m, Nq]`` float64; NaN where ``first_hit_rank`` is 0.
        family: digest of the feature space that the cells belong to.
    """

    widths: np.ndarray
    defined: np.ndarray
    first_hit_rank: np.ndarray
    average_precision: np.ndarray
    family: str = ""

    @classmethod
    def from_cells(cls, cells: Cells, widths: Sequence[float], family: str = "") -> QueryResults:
        """Collect the rankings; at least one cell must be defined."""
        defined = np.array([[cell is not None for cell in row] for row in cells])
        some = next(cell for row in cells for cell in row if cell is not None)
        ranks = np.zeros((*defined.shape, len(some.valid)), dtype=np.int32)
        precision = np.full(ranks.shape, np.nan)
        for q, row in enumerate(cells):
            for g, cell in enumerate(row):
                if cell is not None:
                    ranks[q, g], precision[q, g] = cell.first_hit_rank, cell.average_precision
        return cls(np.asarray(widths, dtype=np.float64), defined, ranks, precision, family)

    def write(self, path: str | Path) -> Path:
        """Write a compressed NumPy archive that holds no pickles; it appears complete or not at all."""
        with atomic_write(path) as temporary, temporary.open("wb") as file:
            np.savez_compressed(
                file,
                format=np.array(QUERIES_FORMAT),
                widths=self.widths,
                defined=self.defined,
                first_hit_rank=self.first_hit_rank,
                average_precision=self.average_precision,
                family=np.array(self.family),
            )
        return Path(path)

    @classmethod
    def read(cls, path: str | Path) -> QueryResults:
        """Read the file that :meth:`write` wrote.

        Raises:
            InputError: missing, damaged, or another format.
        """
        try:
            with np.load(path, allow_pickle=False) as content:
                if int(content["format"]) != QUERIES_FORMAT:
                    raise InputError(path, f"must have format {QUERIES_FORMAT}", int(content["format"]))
                names = ("widths", "defined", "first_hit_rank", "average_precision")
                return cls(**{name: content[name] for name in names}, family=str(content["family"]))
        except InputError:
            raise
        except Exception as error:  # NumPy raises OSError, ValueError, KeyError, BadZipFile, EOFError...
            raise InputError(path, "must be a queries.npz of cross_test", f"{type(error).__name__}") from error
