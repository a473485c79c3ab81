"""Rankings of every (query sub-model, gallery sub-model) pair, and the file that stores them query by query.

Shapes: ``m`` sub-models, ``Nq`` queries.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from ..errors import InputError
from ..files import atomic_write
from .ranking import RankingResult, rank_matches, similarity_buffer
from .task import Cell, RetrievalTask

QUERIES_FORMAT = 1

Cells = list[list[RankingResult | None]]


def rank_cells(task: RetrievalTask) -> Cells:
    """Rank each gallery for each query sub-model: ``[m][m]``, rows = query; ``None`` for a cell that is not defined."""
    cells: Cells = [[None] * len(task.widths) for _ in task.widths]
    # reused, because new memory costs a tenth of the matrix product
    buffer = similarity_buffer(task.query[0], task.matches, task.block_bytes)
    for q, g in task.cells:
        query, gallery = task.query[q], task.gallery[g]
        cells[q][g] = rank_matches(query, gallery, task.matches, block_bytes=task.block_bytes, buffer=buffer)
    return cells


@dataclass(frozen=True, eq=False)
class QueryResults:
    """The results of each query in each cell: the content of ``queries.npz``.

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
        """Collect the rankings. At least one cell must be defined."""
        defined = np.array([[cell is not None for cell in row] for row in cells])
        some = next(cell for row in cells for cell in row if cell is not None)
        ranks = np.zeros((*defined.shape, len(some.valid)), dtype=np.int32)
        precision = np.full(ranks.shape, np.nan)
        for q, row in enumerate(cells):
            for g, cell in enumerate(row):
                if cell is not None:
                    ranks[q, g], precision[q, g] = cell.first_hit_rank, cell.average_precision
        return cls(np.asarray(widths, dtype=np.float64), defined, ranks, precision, family)

    def cmc(self, cell: Cell, max_rank: int) -> np.ndarray:
        """``CMC(1), ..., CMC(max_rank)``: per cent of the queries with a match that have one by that rank."""
        ranks = self.first_hit_rank[cell]
        ranks = ranks[ranks > 0]
        hits = np.bincount(ranks[ranks <= max_rank], minlength=max_rank + 1)
        return 100.0 * np.cumsum(hits[1:]) / len(ranks)

    def write(self, path: str | Path) -> Path:
        """Write a compressed NumPy archive without pickles. It appears complete or not at all."""
        with atomic_write(path) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, format=QUERIES_FORMAT, **vars(self))
        return Path(path)

    @classmethod
    def read(cls, path: str | Path) -> QueryResults:
        """Read a file of :meth:`write`; InputError if it is missing, damaged, or of another format."""
        try:
            with np.load(path, allow_pickle=False) as content:
                if int(content["format"]) != QUERIES_FORMAT:
                    raise InputError(path, f"must have format {QUERIES_FORMAT}", int(content["format"]))
                values = {field.name: content[field.name] for field in fields(cls)}
                return cls(**{**values, "family": str(values["family"])})
        except InputError:
            raise
        except Exception as error:  # NumPy raises OSError, ValueError, KeyError, BadZipFile, EOFError...
            raise InputError(path, "must be a queries.npz of cross_test", f"{type(error).__name__}") from error
