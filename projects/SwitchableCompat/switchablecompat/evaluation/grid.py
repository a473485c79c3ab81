"""The compatibility grid: every sub-model as query against every sub-model as gallery.

``grid[q, g]``: rows = query sub-model, columns = gallery sub-model. The diagonal holds the self-tests, the rest the
cross-tests. A cross-test passes the empirical compatibility criterion, here in its strict form, iff

    M_qg > min(M_qq, M_gg),

that is, if retrieval across the two sub-models is better than with the weaker one alone (Shen et al., "Towards
Backward-Compatible Representation Learning", CVPR 2020, section 3.1, applied to every pair).
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ..errors import InputError
from ..widths import width_name
from .cells import Cells
from .ranking import RankingResult
from .task import Cell

FORMAT = 1
METRICS = ("mAP", "Rank-1", "Rank-5", "Rank-10", "mINP")
REFINED = "refined"
FIXED_KEYS = ("format", "dataset", "widths", "rows", "columns", *METRICS, "compatibility")

Matrix = tuple[tuple[float | None, ...], ...]


@dataclass(frozen=True)
class CompatibilityGrid:
    """Metrics of every (query sub-model, gallery sub-model) pair, in per cent.

    Attributes:
        widths: width multipliers, ascending, ``[m]``.
        values: one ``[m][m]`` matrix per metric of :data:`METRICS`; ``None`` = not defined, printed '-'. ``mAP`` is
            required; a missing metric is not defined in any cell.
        dataset: name of the data set.
        metadata: further facts that JSON can hold (method, seed, family, config, versions, ...).

    Raises:
        InputError: shapes, widths or values do not form a grid.
    """

    widths: tuple[float, ...]
    values: Mapping[str, Matrix]
    dataset: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        widths = tuple(float(width) for width in self.widths)
        if not widths or list(widths) != sorted({*widths}):
            raise InputError("widths", "must be ascending, without repetition, at least one", list(widths))
        if len({width_name(width) for width in widths}) < len(widths):
            raise InputError("widths", "must differ within four decimals", list(widths))
        if unknown := [metric for metric in self.values if metric not in METRICS]:
            raise InputError("values", f"must be among the metrics {', '.join(METRICS)}", unknown[0])
        if "mAP" not in self.values:
            raise InputError("values", "must contain mAP", list(self.values))
        if taken := [key for key in self.metadata if key in FIXED_KEYS]:
            raise InputError("metadata", "must not use a key of the grid itself", taken[0])
        undefined = ((None,) * len(widths),) * len(widths)
        values = {metric: _matrix(metric, self.values.get(metric, undefined), len(widths)) for metric in METRICS}
        object.__setattr__(self, "widths", widths)
        object.__setattr__(self, "values", values)
        object.__setattr__(self, "dataset", str(self.dataset))
        # as JSON returns it, so that a round trip changes nothing
        metadata = json.loads(json.dumps({**self.metadata}, default=lambda item: item.tolist()))
        object.__setattr__(self, "metadata", metadata)

    @property
    def refined(self) -> CompatibilityGrid | None:
        """The grid of the same cells after query expansion or re-ranking (key ``refined``); None without one."""
        content = self.metadata.get(REFINED)
        return None if content is None else CompatibilityGrid.from_dict(content)

    def with_refined(self, refined: CompatibilityGrid) -> CompatibilityGrid:
        """A copy of this grid with another grid of the same cells under the key ``refined``."""
        return replace(self, metadata={**self.metadata, REFINED: refined.to_dict()})

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the sub-models, such as ``w025``."""
        return tuple(width_name(width) for width in self.widths)

    def __getitem__(self, cell: Cell) -> float | None:
        """The mAP of one cell; ``grid[q, g]``."""
        return self.values["mAP"][cell[0]][cell[1]]

    def self_tests(self) -> tuple[float | None, ...]:
        """The mAP of the diagonal: each sub-model against itself."""
        return tuple(self[i, i] for i in range(len(self.widths)))

    def cross_tests(self) -> dict[Cell, float | None]:
        """The mAP of all cells ``(q, g)`` off the diagonal, row by row."""
        return {cell: self[cell] for cell in itertools.permutations(range(len(self.widths)), 2)}

    def margins(self) -> dict[Cell, float]:
        """``M_qg - min(M_qq, M_gg)`` of every cross-test with all three values; the cross-test passes iff it is > 0."""
        margins = {}
        for (q, g), value in self.cross_tests().items():
            query, gallery = self[q, q], self[g, g]
            if value is not None and query is not None and gallery is not None:
                margins[q, g] = value - min(query, gallery)
        return margins

    def failed_cells(self) -> list[Cell]:
        """Cross-tests that fail the strict criterion. Cells that cannot be judged are skipped."""
        return [cell for cell, margin in self.margins().items() if not margin > 0]

    def compatibility(self) -> dict[str, Any]:
        """Summary over the mAP matrix; a mean over nothing is ``None``.

        Returns:
            ``AC``: share of the judged cross-tests that pass, in per cent; ``AM``: mean of all defined cells;
            ``mean_self``, ``mean_cross``: means of the diagonal and of the rest; ``failed_cells``: ``[[q, g], ...]``;
            ``judged_cells``: number of cross-tests with all values that the criterion needs.
        """
        alone, cross = self.self_tests(), tuple(self.cross_tests().values())
        judged, failed = len(self.margins()), self.failed_cells()
        return {
            "AC": 100.0 * (judged - len(failed)) / judged if judged else None,
            "AM": mean_defined(alone + cross),
            "failed_cells": [list(cell) for cell in failed],
            "mean_cross": mean_defined(cross),
            "mean_self": mean_defined(alone),
            "judged_cells": judged,
        }

    def verdict(self) -> str:
        """The outcome in words: the self-tests, how many cross-tests pass, and the worst failure."""
        alone = zip(self.names, self.self_tests(), strict=True)
        lines = ["Self-tests (mAP): " + ", ".join(f"{name} {format_value(value)}" for name, value in alone) + "."]
        margins, failed = self.margins(), self.failed_cells()
        if not margins:
            return "\n".join([*lines, "No cross-test can be judged."])
        passed = f"{len(margins) - len(failed)} of {len(margins)}"
        lines.append(f"Cross-tests: {passed} pass (better than the weaker of the two self-tests).")
        if skipped := len(self.cross_tests()) - len(margins):
            lines[-1] += f" {skipped} not judged: a value that the criterion needs is not defined."
        if failed:
            q, g = worst = min(failed, key=margins.__getitem__)
            bar = min(value for value in (self[q, q], self[g, g]) if value is not None)
            lines.append(
                f"Worst: query {self.names[q]} on gallery {self.names[g]} reaches {format_value(self[worst])}, "
                f"{-margins[worst]:.2f} below the {format_value(bar)} to beat."
            )
        return "\n".join(lines)

    def scalars(self) -> dict[str, float]:
        """Defined cells under flat names, query first: ``mAP_w025_w100`` is query w025 on gallery w100."""
        return {
            f"{metric}_{self.names[q]}_{self.names[g]}": value
            for metric, matrix in self.values.items()
            for q, row in enumerate(matrix)
            for g, value in enumerate(row)
            if value is not None
        }

    def to_dict(self) -> dict[str, Any]:
        """The content of ``grid.json``: plain Python values only; :meth:`from_dict` restores it exactly."""
        return {
            "format": FORMAT,
            "dataset": self.dataset,
            "widths": list(self.widths),
            "rows": "query",
            "columns": "gallery",
            **{metric: [list(row) for row in self.values[metric]] for metric in METRICS},
            "compatibility": self.compatibility(),
            **self.metadata,
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> CompatibilityGrid:
        """Restore a grid from the content of a ``grid.json``. Recomputes the summary; unknown keys become metadata."""
        for key, expected in (("format", FORMAT), ("rows", "query"), ("columns", "gallery")):
            if content.get(key) != expected:
                raise InputError(f"grid: {key}", f"must be {expected!r}", repr(content.get(key)))
        if missing := [key for key in ("widths", "mAP") if key not in content]:
            raise InputError(f"grid: {missing[0]}", "must be given")
        values = {metric: content[metric] for metric in METRICS if metric in content}
        metadata = {key: item for key, item in content.items() if key not in FIXED_KEYS}
        return cls(content["widths"], values, content.get("dataset", ""), metadata)


def grid_from_cells(
    cells: Cells, widths: Sequence[float], dataset: str, *, metadata: Mapping[str, Any] | None = None
) -> CompatibilityGrid:
    """The grid of rankings ``[m][m]`` from :func:`~.cells.rank_cells`."""
    rows = [[_metrics(cell) if cell else {} for cell in row] for row in cells]
    values = {metric: tuple(tuple(cell.get(metric) for cell in row) for row in rows) for metric in METRICS}
    return CompatibilityGrid(tuple(widths), values, dataset, metadata or {})


def format_value(value: float | None) -> str:
    """Format a value in per cent with two decimals, or '-' if it is not defined."""
    return "-" if value is None else f"{value:.2f}"


def _metrics(result: RankingResult) -> dict[str, float]:
    return {"mAP": result.mAP, **{f"Rank-{k}": result.rank_k(k) for k in (1, 5, 10)}, "mINP": result.mINP}


def _matrix(metric: str, rows: Sequence[Sequence[float | None]], size: int) -> Matrix:
    matrix = tuple(tuple(None if value is None else float(value) for value in row) for row in rows)
    if [len(row) for row in matrix] != [size] * size:
        raise InputError(metric, f"must be {size} rows of {size} values", [len(row) for row in matrix])
    for q, row in enumerate(matrix):
        for g, value in enumerate(row):
            if value is not None and not 0.0 <= value <= 100.0:  # rejects NaN too
                raise InputError(f"{metric}[{q}][{g}]", "must be in [0, 100] per cent or None", value)
    return matrix


def mean_defined(values: Sequence[float | None]) -> float | None:
    """Mean of the values that are defined; None if there are none."""
    defined = [value for value in values if value is not None]
    return sum(defined) / len(defined) if defined else None
