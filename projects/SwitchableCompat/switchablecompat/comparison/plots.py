"""The comparison as pictures, with matplotlib's objects, without a global figure."""

import math
from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..evaluation.grid import format_value
from ..files import atomic_write
from .table import Comparison

COLUMNS = 3
TITLE_WIDTH = 26  # characters that fit above one grid


def write_plots(comparison: Comparison, folder: str | Path) -> list[Path]:
    """Write ``heat_maps.png`` and ``curves.png``; return the paths."""
    figures = {"heat_maps.png": draw_heat_maps(comparison), "curves.png": draw_curves(comparison)}
    for name, figure in figures.items():
        with atomic_write(Path(folder) / name) as temporary:
            figure.savefig(temporary, format="png", dpi=150)
    return [Path(folder) / name for name in figures]


def draw_heat_maps(comparison: Comparison) -> Figure:
    """The mean mAP grids side by side, all on the same colour scale."""
    m, methods = len(comparison.widths), comparison.methods
    spreads = {x: [[comparison.spread(x, q, g) for g in range(m)] for q in range(m)] for x in methods}
    means = {x: np.array([[v.mean if v else math.nan for v in row] for row in rows]) for x, rows in spreads.items()}
    low, high = np.nanmin([*means.values()]), np.nanmax([*means.values()])
    margin = 0.25 * max(high - low, 1.0)
    columns = min(COLUMNS, len(methods))
    rows = math.ceil(len(methods) / columns)
    figure = Figure(figsize=(max(4.0, 0.4 + 3.4 * columns), 0.8 + 3.2 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat[len(methods) :]:
        axes.set_visible(False)
    for axes, method in zip(grid.flat, methods, strict=False):
        image = axes.imshow(means[method], cmap="Blues", vmin=low - margin, vmax=high + margin, aspect="auto")
        axes.set_facecolor("#eeeeee")  # shows through where a cell is not defined
        for (q, g), value in np.ndenumerate(means[method]):
            text = axes.text(g, q, format_value(None if math.isnan(value) else value), ha="center", va="center")
            text.set_color("white" if value > low + 0.6 * (high - low) else "black")
            text.set_fontweight("bold" if q == g else "normal")
        axes.set_xticks(range(m), comparison.names)
        axes.set_yticks(range(m), comparison.names)
        axes.tick_params(length=0)
        axes.set_title(fill(f"{comparison.titles[method]} (n={len(comparison.of(method))})", TITLE_WIDTH))
    figure.colorbar(image, ax=grid, label="mAP (%)", shrink=0.8)
    figure.supxlabel("gallery sub-model")
    figure.supylabel("query sub-model")
    return figure


def draw_curves(comparison: Comparison) -> Figure:
    """Self-tests over width, and both cross-tests with the full model. Bars show the sample standard deviation."""
    full = len(comparison.widths) - 1
    panels = {
        "self-test": lambda i: (i, i),
        "query of this width, full gallery": lambda i: (i, full),
        "full query, gallery of this width": lambda i: (full, i),
    }
    figure = Figure(figsize=(12.0, 4.6), layout="constrained")
    for axes, (title, cell_of) in zip(figure.subplots(1, len(panels), sharey=True), panels.items(), strict=True):
        for number, method in enumerate(comparison.methods):
            _draw_curve(axes, comparison, method, [cell_of(i) for i in range(full + 1)], number)
        axes.set_title(title)
        axes.set_xlabel("width")
        axes.set_xticks(comparison.widths)
        axes.grid(alpha=0.3)
    figure.axes[0].set_ylabel("mAP (%)")
    lines: dict[str, Any] = {str(line.get_label()): line for axes in figure.axes for line in axes.containers}
    names = [comparison.titles[m] for m in comparison.methods if comparison.titles[m] in lines]
    figure.legend([lines[n] for n in names], names, loc="outside lower center", ncols=min(5, len(names)), frameon=False)
    return figure


def _draw_curve(axes: Axes, comparison: Comparison, method: str, cells: list[tuple[int, int]], number: int) -> None:
    """One method's curve through the cells that it defines."""
    found = [(w, comparison.spread(method, *c)) for w, c in zip(comparison.widths, cells, strict=True)]
    points = [(width, value) for width, value in found if value is not None]
    if points:
        axes.errorbar(
            [width for width, _ in points],
            [value.mean for _, value in points],
            yerr=[value.std or 0.0 for _, value in points],
            label=comparison.titles[method],
            color=f"C{number % 10}",
            marker="osD^v"[number % 5],
            linestyle="-" if method == comparison.suite.ours else "--",
            capsize=2,
        )
