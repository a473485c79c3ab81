"""The comparison as Markdown, CSV and LaTeX."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..evaluation.grid import METRICS
from ..evaluation.grid_files import CONVENTION
from ..files import write_texts
from .statistics import CONFIDENCE, Difference, Spread
from .table import Comparison

LATEX_SPECIAL = str.maketrans({c: f"\\{c}" for c in "&%$#_{}"} | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}"})


def write_tables(comparison: Comparison, folder: str | Path) -> list[Path]:
    """Write ``table.md``, ``table.tex``, ``cells.csv``, ``summary.csv`` and ``differences.csv``; returns the paths."""
    texts = {
        "table.md": render_markdown(comparison),
        "table.tex": render_latex(comparison),
        "cells.csv": render_cells_csv(comparison),
        "summary.csv": render_summary_csv(comparison),
        "differences.csv": render_differences_csv(comparison),
    }
    return write_texts(folder, texts)


def render_markdown(comparison: Comparison) -> str:
    """Everything for the reader: grids, summary, paired differences."""
    parts = [
        f"# Comparison: {comparison.suite.name}",
        "\n".join(f"- {key}: {value}" for key, value in comparison.header().items()),
        f"All values in per cent, mean ± sample standard deviation over the seeds; **{CONVENTION}**; "
        "'-' is not defined by the method. Made by `tools/compare.py` from the JSON files of this folder.",
    ]
    for metric in ("mAP", "Rank-1"):
        rows = [[f"**{title}** (n={n})" if first else "", name, *cells]
                for title, n, first, name, cells in _grid_rows(comparison, metric)]  # fmt: skip
        parts += [f"## {metric}", _markdown(["method", "query \\ gallery", *comparison.names], rows)]
    parts += _markdown_published(comparison)
    header = ["measure", *(comparison.titles[method] for method in comparison.methods)]
    rows = [
        [name, *(format_spread(comparison.summary(m, name), len(comparison.of(m))) for m in comparison.methods)]
        for name in comparison.measures
    ]
    parts += ["## Summary", _markdown(header, rows), _legend(comparison)]
    parts += _markdown_differences(comparison)
    return "\n\n".join(parts) + "\n"


def render_overview(comparison: Comparison) -> str:
    """One line per method, for a page that has room for no more: self-tests, the outermost cross-tests, criterion."""
    m = len(comparison.widths)
    corners = [(0, m - 1), (m - 1, 0)] if m > 1 else []
    header = [
        "mAP (%)",
        *comparison.names,
        *(f"{comparison.names[q]} on {comparison.names[g]}" for q, g in corners),
        "mean cross-test",
        "AC (%)",
    ]
    rows = []
    for method in comparison.methods:
        n = len(comparison.of(method))
        cells = [comparison.spread(method, q, g) for q, g in [*((i, i) for i in range(m)), *corners]]
        cells += [comparison.summary(method, name) for name in ("mean cross-test", "AC")]
        few = "" if n == len(comparison.suite.seeds) else f" (n={n})"
        rows.append([comparison.titles[method] + few, *(format_spread(cell, n) for cell in cells)])
    made = "; ".join(f"{key.lower()}: {value}" for key, value in comparison.header().items() if key != "Widths")
    return f"{_markdown(header, rows)}\n\n({made})"


PUBLISHED_ROWS = ("unified", "bct", "asymmetric", "bct_s", "asymmetric_s", "sfsc")


def render_headline(comparison: Comparison) -> str:
    """The rows that the paper has, means over the seeds only: for a first page."""
    m = len(comparison.widths)
    rows = []
    for method in (name for name in PUBLISHED_ROWS if name in comparison.methods):
        spreads = [comparison.spread(method, i, i) for i in range(m)]
        spreads += [comparison.summary(method, name) for name in ("mean cross-test", "AC")]
        means = ["-" if spread is None else f"{spread.mean:.1f}" for spread in spreads]
        rows.append([comparison.titles[method], *means])
    header = ["mAP (%)", *comparison.names, "mean cross-test", "AC (%)"]
    seeds = ", ".join(map(str, comparison.suite.seeds))
    return f"{_markdown(header, rows)}\n\n({comparison.suite.dataset} Means over seeds {seeds}.)"


def render_latex(comparison: Comparison, metric: str = "mAP") -> str:
    """The table of one metric, as the paper has it; needs no package."""
    m = len(comparison.widths)
    lines = [
        f"% {metric} in per cent, {CONVENTION}; mean and sample standard deviation over the seeds",
        rf"\begin{{tabular}}{{ll{'r' * m}}}",
        r"\hline",
        " & ".join(["method", "query", *(f"$\\phi_{{{i + 1}}}$" for i in range(m))]) + r" \\",
    ]
    for title, _, first, _, cells in _grid_rows(comparison, metric):
        if first:
            lines.append(r"\hline")
            number = 0
        number += 1
        head = title.translate(LATEX_SPECIAL) if first else ""
        values = [cell.replace(" ± ", r" $\pm$ ") for cell in cells]
        lines.append(" & ".join([head, f"$\\phi_{{{number}}}$", *values]) + r" \\")
    return "\n".join([*lines, r"\hline", r"\end{tabular}"]) + "\n"


def render_cells_csv(comparison: Comparison) -> str:
    """One line per method, metric and cell that is defined."""
    rows = []
    for method in comparison.methods:
        for metric in (*METRICS, "negative_flips"):
            for q, query in enumerate(comparison.widths):
                for g, gallery in enumerate(comparison.widths):
                    summary = comparison.spread(method, q, g, metric)
                    if summary:
                        rows.append([method, metric, query, gallery, summary.mean, summary.std, summary.n])
    return _csv(["method", "metric", "query_width", "gallery_width", "mean", "std", "n"], rows)


def render_summary_csv(comparison: Comparison) -> str:
    """One line per method and measure that is defined."""
    rows = []
    for method in comparison.methods:
        for name in comparison.measures:
            summary = comparison.summary(method, name)
            if summary:
                rows.append([method, name, summary.mean, summary.std, summary.n])
    return _csv(["method", "measure", "mean", "std", "n"], rows)


def render_differences_csv(comparison: Comparison) -> str:
    """One line per baseline and cell that both methods define: ours minus the baseline."""
    rows = []
    for baseline in comparison.baselines:
        for q, query in enumerate(comparison.widths):
            for g, gallery in enumerate(comparison.widths):
                d = comparison.difference(baseline, q, g)
                if d:
                    rows.append([comparison.suite.ours, baseline, query, gallery, d.mean, d.low, d.high, d.n])
    return _csv(["ours", "baseline", "query_width", "gallery_width", "mean", "low", "high", "n"], rows)


def format_spread(value: Spread | None, seeds: int = 0) -> str:
    """``58.19 ± 0.42``; without a deviation for one seed; '-' where nothing is defined.

    Args:
        value: what to show.
        seeds: how many there are; if the value is of fewer, it says of how many.
    """
    if value is None:
        return "-"
    text = f"{value.mean:.2f}" + ("" if value.std is None else f" ± {value.std:.2f}")
    return text + (f" (n={value.n})" if seeds and value.n != seeds else "")


def format_difference(value: Difference | None) -> str:
    """``+1.20 [+0.30, +2.10]``, bold if the interval excludes zero; without an interval for one pair."""
    if value is None:
        return "-"
    if value.low is None or value.high is None:
        return f"{value.mean:+.2f}"
    text = f"{value.mean:+.2f} [{value.low:+.2f}, {value.high:+.2f}]"
    return f"**{text}**" if value.sure else text


def _grid_rows(comparison: Comparison, metric: str) -> Iterator[tuple[str, int, bool, str, list[str]]]:
    """Title, number of seeds, whether it is the method's first row, query sub-model, cells."""
    m = len(comparison.widths)
    for method in comparison.methods:
        for q, name in enumerate(comparison.names):
            cells = [format_spread(comparison.spread(method, q, g, metric)) for g in range(m)]
            yield comparison.titles[method], len(comparison.of(method)), q == 0, name, cells


def _legend(comparison: Comparison) -> str:
    independent = comparison.titles.get(comparison.suite.independent, "none here")
    return (
        "AC: share of the judged cross-tests that beat the weaker of the two self-tests. AM: mean of the cells that "
        "the method defines. Negative flips: queries right at rank 1 on the sub-model's own gallery and wrong on "
        "another's, mean over the cross-tests. Update gain (a ratio): (M(new, old) - M(old, old)) / (M*(new) - "
        "M(old, old)), old = the smaller sub-model, new = the larger; '-' if M*(new) is not above M(old, old). "
        "P_up, P_comp, P_1: AdvBCT's scores. M* and "
        f"independent: the models trained without compatibility ({independent})."
    )


def _markdown_differences(comparison: Comparison) -> list[str]:
    if not comparison.baselines:
        return []
    ours = comparison.titles[comparison.suite.ours]
    m = len(comparison.widths)
    rows = []
    for baseline in comparison.baselines:
        for q, name in enumerate(comparison.names):
            cells = [format_difference(comparison.difference(baseline, q, g)) for g in range(m)]
            rows.append([f"**{comparison.titles[baseline]}**" if q == 0 else "", name, *cells])
    note = (
        f"mAP of {ours} minus the baseline, paired by seed: mean [{100 * CONFIDENCE:.0f} % t interval], bold where the "
        "interval excludes zero. One seed gives no interval; cells are not corrected for being many."
    )
    table = _markdown(["minus", "query \\ gallery", *comparison.names], rows)
    return [f"## {ours} minus each baseline", note, table]


def _markdown_published(comparison: Comparison) -> list[str]:
    """Our cells beside those that others have published."""
    published = comparison.suite.published
    rows = []
    for method in comparison.methods:
        theirs = published.cells.get(comparison.suite.method(method).published, {}) if published else {}
        for q, name in enumerate(comparison.names if theirs else ()):
            cells = [
                f"{format_spread(comparison.spread(method, q, g))} / {_percent(theirs.get((q, g)))}"
                for g in range(len(comparison.widths))
            ]
            rows.append([f"**{comparison.titles[method]}**" if q == 0 else "", name, *cells])
    if published is None or not rows:
        return []
    note = f"mAP here / as published. Published figures: {published.source}."
    table = _markdown(["here / published", "query \\ gallery", *comparison.names], rows)
    return ["## mAP beside published figures", note, table]


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _csv(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    return text.getvalue()
