"""The comparison as Markdown, CSV and LaTeX."""

import csv
import io
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple
from functools import partial
from pathlib import Path

from ..evaluation.grid import METRICS
from ..evaluation.grid_files import CONVENTION
from ..files import write_texts
from .statistics import CONFIDENCE, Difference, Spread
from .table import OTHER, Comparison

CORRECTED = (
    "Random splits of one data set overlap, so the intervals are those of the corrected resampled t-test (Nadeau and "
    "Bengio, 2003)."
)
DAGGER = r"$^{\dagger}$"
LATEX_SPECIAL = str.maketrans(
    {c: f"\\{c}" for c in "&%$#_{}"} | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", OTHER: DAGGER}
)
DEVIATE = "results with other settings than the suite asks for now"


def write_tables(comparison: Comparison, folder: str | Path) -> list[Path]:
    """Write ``table.md``, ``table.tex``, ``cells.csv``, ``summary.csv`` and ``differences.csv``; return the paths."""
    texts = {"table.md": render_markdown(comparison), "table.tex": render_latex(comparison)}
    return write_texts(folder, {**texts, **render_csvs(comparison)})


def render_markdown(comparison: Comparison) -> str:
    """The full report: grids, summary, paired differences."""
    parts = [
        f"# Comparison: {comparison.suite.name}",
        "\n".join(f"- {key}: {value}" for key, value in comparison.header().items()),
        *_markdown_deviations(comparison),
        f"All values in per cent, mean ± sample standard deviation over the seeds; **{CONVENTION}**; "
        "'-' is not defined by the method. Made by `tools/compare.py` from the JSON files of this folder.",
    ]
    for metric in ("mAP", "Rank-1"):
        titles = {m: f"**{comparison.titles[m]}** (n={len(comparison.of(m))})" for m in comparison.methods}
        parts += [f"## {metric}", _grids(comparison, "method", titles, partial(_cell, comparison, metric=metric))]
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
    """A short table with one line per method: self-tests, the outermost cross-tests, criterion."""
    m = len(comparison.widths)
    corners = [(0, m - 1), (m - 1, 0)] if m > 1 else []
    table = _lines(comparison, comparison.methods, corners, len(comparison.suite.seeds), format_spread)
    made = "; ".join(f"{key.lower()}: {value}" for key, value in comparison.header().items() if key != "Widths")
    return f"{table}\n\n({made})"


PUBLISHED_ROWS = ("unified", "bct", "asymmetric", "bct_s", "asymmetric_s", "sfsc")


def render_headline(comparison: Comparison) -> str:
    """The rows of the paper, only with means over the seeds, for a first page."""
    methods = [name for name in PUBLISHED_ROWS if name in comparison.methods]
    seeds = sorted({seed for method in methods for seed in comparison.of(method)})
    table = _lines(comparison, methods, [], len(seeds), lambda value, _: "-" if value is None else f"{value.mean:.1f}")
    which = f"Seed {seeds[0]}" if len(seeds) == 1 else f"Means over seeds {', '.join(map(str, seeds))}"
    return f"{table}\n\n({comparison.suite.dataset} {which}.)"


def _lines(
    comparison: Comparison,
    methods: Sequence[str],
    crossed: Sequence[tuple[int, int]],
    seeds: int,
    form: Callable[[Spread | None, int], str],
) -> str:
    """A line per method: self-tests, some cross-tests, their mean and AC. A title says if seeds are missing."""
    names = comparison.names
    header = ["mAP (%)", *names, *(f"{names[q]} on {names[g]}" for q, g in crossed), "mean cross-test", "AC (%)"]
    rows = []
    for method in methods:
        n = len(comparison.of(method))
        cells = [(i, i) for i in range(len(names))]
        values = [comparison.spread(method, *cell) for cell in (*cells, *crossed)]
        values += [comparison.summary(method, name) for name in ("mean cross-test", "AC")]
        title = comparison.titles[method] + ("" if n == seeds else f" (n={n})")
        rows.append([title, *(form(value, n) for value in values)])
    return _markdown(header, rows)


def render_latex(comparison: Comparison) -> str:
    """The table of mAP in the paper's form. Needs no LaTeX package."""
    m = len(comparison.widths)
    lines = [
        f"% mAP in per cent, {CONVENTION}; mean and sample standard deviation over the seeds",
        *(f"% {DEVIATE}: {text}" for text in comparison.deviations),
        rf"\begin{{tabular}}{{ll{'r' * m}}}",
        r"\hline",
        " & ".join(["method", "query", *(f"$\\phi_{{{i + 1}}}$" for i in range(m))]) + r" \\",
    ]
    for method in comparison.methods:
        lines.append(r"\hline")
        for q in range(m):
            head = "" if q else comparison.titles[method].translate(LATEX_SPECIAL)
            cells = [_cell(comparison, method, q, g).replace(" ± ", r" $\pm$ ") for g in range(m)]
            lines.append(" & ".join([head, f"$\\phi_{{{q + 1}}}$", *cells]) + r" \\")
    lines.append(r"\hline")
    if comparison.deviations:
        lines.append(rf"\multicolumn{{{m + 2}}}{{l}}{{{DAGGER} {DEVIATE}}} \\")
    return "\n".join([*lines, r"\end{tabular}"]) + "\n"


def render_csvs(comparison: Comparison) -> dict[str, str]:
    """``cells.csv``, ``summary.csv`` and ``differences.csv`` (ours minus a baseline), with one line per value."""
    widths = comparison.widths
    pairs = list(itertools.product(range(len(widths)), repeat=2))
    metrics = (*METRICS, "negative_flips")
    cells = [
        [method, metric, widths[q], widths[g], *astuple(value)]
        for method, metric, (q, g) in itertools.product(comparison.methods, metrics, pairs)
        if (value := comparison.spread(method, q, g, metric))
    ]
    summary = [
        [method, name, *astuple(value)]
        for method, name in itertools.product(comparison.methods, comparison.measures)
        if (value := comparison.summary(method, name))
    ]
    differences = [
        [comparison.suite.ours, baseline, widths[q], widths[g], *astuple(minus)]
        for baseline, (q, g) in itertools.product(comparison.baselines, pairs)
        if (minus := comparison.difference(baseline, q, g))
    ]
    cell = ["query_width", "gallery_width", "mean"]
    return {
        "cells.csv": _csv(["method", "metric", *cell, "std", "n"], cells),
        "summary.csv": _csv(["method", "measure", "mean", "std", "n"], summary),
        "differences.csv": _csv(["ours", "baseline", *cell, "low", "high", "n"], differences),
    }


def format_spread(value: Spread | None, seeds: int = 0) -> str:
    """Format a value as ``58.19 ± 0.42``, without deviation for one seed, or as '-' if it is not defined.

    If the value is of fewer than all ``seeds``, the text says of how many.
    """
    if value is None:
        return "-"
    text = f"{value.mean:.2f}" + ("" if value.std is None else f" ± {value.std:.2f}")
    return text + (f" (n={value.n})" if seeds and value.n != seeds else "")


def format_difference(value: Difference | None, seeds: int = 0) -> str:
    """Format as ``+1.20 [+0.30, +2.10]``, bold if the interval excludes zero, without an interval for one pair.

    If fewer than all ``seeds`` of our method are paired, the text says how many.
    """
    if value is None:
        return "-"
    text = f"{value.mean:+.2f}"
    if value.low is not None and value.high is not None:
        text += f" [{value.low:+.2f}, {value.high:+.2f}]"
    return (f"**{text}**" if value.sure else text) + (f" (n={value.n})" if value.n < seeds else "")


def _cell(comparison: Comparison, method: str, q: int, g: int, metric: str = "mAP") -> str:
    return format_spread(comparison.spread(method, q, g, metric))


def _grids(comparison: Comparison, corner: str, titles: Mapping[str, str], cell: Callable[[str, int, int], str]) -> str:
    """The grids of some methods, one below the other. ``titles`` is by method."""
    m = range(len(comparison.widths))
    rows = [
        ["" if q else title, comparison.names[q], *(cell(method, q, g) for g in m)]
        for method, title in titles.items()
        for q in m
    ]
    return _markdown([corner, "query \\ gallery", *comparison.names], rows)


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


def _markdown_deviations(comparison: Comparison) -> list[str]:
    """The rows with results of other settings, if there are any."""
    if not comparison.deviations:
        return []
    return [f"**{OTHER}: {DEVIATE}**", "\n".join(f"- {text}" for text in comparison.deviations)]


def _markdown_differences(comparison: Comparison) -> list[str]:
    if not comparison.baselines:
        return []
    ours = comparison.titles[comparison.suite.ours]
    note = (
        f"mAP of {ours} minus the baseline, paired by seed: mean [{100 * CONFIDENCE:.0f} % t interval], bold where the "
        "interval excludes zero. One seed gives no interval; cells are not corrected for being many."
    )
    if comparison.suite.test_per_train:
        note += f" {CORRECTED}"
    form = partial(format_difference, seeds=len(comparison.of(comparison.suite.ours)))
    means = [[comparison.titles[b], form(comparison.mean_difference(b))] for b in comparison.baselines]
    titles = {baseline: f"**{comparison.titles[baseline]}**" for baseline in comparison.baselines}
    table = _grids(comparison, "minus", titles, lambda *cell: form(comparison.difference(*cell)))
    return [f"## {ours} minus each baseline", note, _markdown(["minus", "mean of all cells"], means), table]


def _markdown_published(comparison: Comparison) -> list[str]:
    """Our cells beside published ones."""
    published = comparison.suite.published
    if published is None:
        return []
    theirs = {m: published.cells.get(comparison.suite.method(m).published, {}) for m in comparison.methods}
    titles = {method: f"**{comparison.titles[method]}**" for method, cells in theirs.items() if cells}
    if not titles:
        return []

    def both(method: str, q: int, g: int) -> str:
        value = theirs[method].get((q, g))
        return f"{_cell(comparison, method, q, g)} / {'-' if value is None else f'{value:.2f}'}"

    note = f"mAP here / as published. Published figures: {published.source}."
    return ["## mAP beside published figures", note, _grids(comparison, "here / published", titles, both)]


def _markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _csv(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    return text.getvalue()
