"""Tables of several methods: the runs of a suite, and published figures."""

import itertools
import os
from collections.abc import Callable
from pathlib import Path
from statistics import fmean

from switchablecompat.comparison.published import read_published
from switchablecompat.comparison.render import CORRECTED, format_difference, render_overview
from switchablecompat.comparison.results import load_results
from switchablecompat.comparison.statistics import CONFIDENCE, Difference
from switchablecompat.comparison.suite import load_suite
from switchablecompat.comparison.table import Comparison
from switchablecompat.errors import InputError

from .grids import passed
from .markdown import table

RESULTS = Path(__file__).parents[2] / "results"


def comparison_table(path: Path, render: Callable[[Comparison], str] = render_overview) -> str:
    """One line per method of a suite, from the results of its runs."""
    suite = load_suite(os.path.relpath(path))
    results = load_results(suite, RESULTS / suite.name)
    if not results:
        raise InputError(path, "must have results", f"none in results/{suite.name}")
    return render(Comparison(suite, results))


def difference_table(comparison: Comparison) -> str:
    """mAP of our method minus each baseline over the cells that both define, and our cross-tests by seed."""
    ours = comparison.titles[comparison.suite.ours]
    order, seeds = range(len(comparison.widths)), len(comparison.of(comparison.suite.ours))
    rows = []
    for baseline in comparison.baselines:
        cells = {(q, g): comparison.difference(baseline, q, g) for q, g in itertools.product(order, order)}
        found = {cell: difference for cell, difference in cells.items() if difference}
        ends = [end(found, key=lambda cell: found[cell].mean) for end in (min, max)]
        above = sum(difference.mean > 0 for difference in found.values())
        rows.append(
            [comparison.titles[baseline], f"{above} of {len(found)}"]
            + [format_difference(comparison.mean_difference(baseline), seeds)]
            + [_in_cell(comparison, cell, found[cell], seeds) for cell in ends]
        )
    by_seed = ", ".join(passed(result.grid) for result in comparison.of(comparison.suite.ours).values())
    notes = [
        f"Points of mAP, means over the seeds; the mean of all cells with its {100 * CONFIDENCE:.0f} % t interval."
    ]
    notes += [CORRECTED] if comparison.suite.test_per_train else []
    notes += [f"Cross-tests of {ours} that pass, by seed: {by_seed}."]
    return table([f"{ours} minus", "cells above", "mean of all cells", "lowest", "highest"], rows, " ".join(notes))


def _in_cell(comparison: Comparison, cell: tuple[int, int], difference: Difference, seeds: int) -> str:
    """The mean of a difference with its cell, and with the number of pairs if it is not that of all seeds."""
    names = " on ".join(comparison.names[i] for i in cell)
    return f"{difference.mean:+.2f} ({names}{f', n={difference.n}' if difference.n < seeds else ''})"


def published_table(path: Path) -> str:
    """Published figures, a line per method: self-tests, corners and the mean of the cross-tests."""
    published = read_published(str(path))
    m = 1 + max(query for cells in published.cells.values() for query, _ in cells)
    columns = [*((i, i) for i in range(m)), (0, m - 1), (m - 1, 0)]
    rows = []
    for method, cells in published.cells.items():
        crossed = [value for (query, gallery), value in cells.items() if query != gallery]
        values = [cells.get(cell) for cell in columns] + [fmean(crossed) if crossed else None]
        rows.append([method, *("-" if value is None else f"{value:.1f}" for value in values)])
    names = [f"phi{i + 1}" for i in range(m)]
    headers = ["mAP (%)", *names, f"{names[0]} on {names[-1]}", f"{names[-1]} on {names[0]}", "mean cross-test"]
    return table(headers, rows, f"{published.source}.")
