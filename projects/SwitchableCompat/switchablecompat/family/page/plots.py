"""The page's plots, from the report."""

import math
from typing import Any

import numpy as np

from ...evaluation.similarities import STEPS
from ..mixed_gallery import MixedGallery
from ..report import STEPS_PER_BIN, FamilyReport
from ..verification import Verification
from .charts import Curve, Rule, line_chart

CMC_TICKS = (1, 2, 5, 10, 20, 50)
BIN = STEPS_PER_BIN / STEPS


def cmc_charts(report: FamilyReport) -> list[dict[str, Any]]:
    """One chart for each query sub-model, one curve for each gallery sub-model."""
    lowest = min((curve[0] for curve in report.cmc.values()), default=0.0)
    floor = max(0.0, 5.0 * math.floor(lowest / 5.0 - 0.5))
    charts = []
    for q, name in enumerate(report.grid.names):
        curves = {g: report.cmc[q, g] for g in range(len(report.grid.names)) if (q, g) in report.cmc}
        if not curves:
            continue
        length = len(next(iter(curves.values())))
        lines = [
            Curve(range(1, length + 1), curve.tolist(), g, "strong" if g == q else "line")
            for g, curve in curves.items()
        ]
        ends = ", ".join(f"{report.grid.names[g]} {curve[0]:.1f} to {curve[-1]:.1f}" for g, curve in curves.items())
        chart = line_chart(
            lines,
            alt=f"CMC of queries by {name} from rank 1 to {length}, in per cent, by gallery sub-model: {ends}",
            x_range=(1, max(length, 2)),
            y_range=(floor, 100.0),
            x_label="rank k",
            y_label="CMC(k) in %",
            x_ticks=[tick for tick in CMC_TICKS if tick <= length],
            log_x=True,
        )
        charts.append({"name": name, "chart": chart})
    return charts


def histogram_charts(report: FamilyReport, headline: Verification | None) -> list[dict[str, Any]]:
    """One small chart per defined cell, all with the same axes."""
    from_counts = {cell: counts.histogram(STEPS_PER_BIN) for cell, counts in report.counts.items()}
    shares = {cell: [100.0 * side / max(side.sum(), 1) for side in sides] for cell, (_, *sides) in from_counts.items()}
    edges = next(iter(from_counts.values()))[0]
    some = np.flatnonzero(sum(genuine + impostor for genuine, impostor in shares.values()) > 0.01)
    left = min(edges[some[0]], 1.0 - BIN)  # all similarities may be 1
    x_range = (float(left), float(min(edges[some[-1]] + BIN, 1.0)))
    top = max(float(side.max()) for pair in shares.values() for side in pair)
    charts = []
    for cell, (genuine, impostor) in shares.items():
        x = [*np.repeat(edges, 2)[1:].tolist(), 1.0]
        curves = [Curve(x, np.repeat(side, 2).tolist(), style, "area") for style, side in ((1, impostor), (0, genuine))]
        name, counts = report.cell_name(cell), report.counts[cell]
        thresholds = {"own": headline.own[cell].threshold, "pooled": headline.pooled.threshold} if headline else {}
        rules = [Rule("x", value, style) for style, value in thresholds.items() if value is not None]
        means = ", ".join(
            f"{kind} pairs {side.sum()}, mean {_mean(side)}"
            for kind, side in (("genuine", counts.genuine), ("impostor", counts.impostor))
        )
        chart = line_chart(
            curves,
            alt=f"Similarities in cell {name}: {means}",
            x_range=x_range,
            y_range=(0.0, top),
            rules=rules,
            size=(220, 120),
        )
        charts.append({"name": name, "chart": chart, "row": cell[0] + 1, "column": cell[1] + 1})
    return charts


def mixed_gallery_charts(mixed: MixedGallery) -> list[dict[str, Any]]:
    """One chart for each query sub-model."""
    charts = []
    for name, curves in mixed.random.items():
        isolated = mixed.isolated[name]
        mean = np.mean(curves, axis=0).tolist()
        everything = [*np.ravel(curves), *isolated]
        margin = 0.08 * max(max(everything) - min(everything), 1.0)
        chart = line_chart(
            [
                Curve(mixed.shares, np.max(curves, axis=0).tolist(), 1, "band", np.min(curves, axis=0).tolist()),
                Curve(mixed.shares, mean, 1, "strong"),
                Curve(mixed.shares, isolated, 0, "strong"),
            ],
            alt=(
                f"mAP of queries by {name}: {mean[0]:.1f} with no item re-encoded, {mean[-1]:.1f} with all; on the way "
                f"{min(mean):.1f} or more in random order, {min(isolated):.1f} or more with isolated items first"
            ),
            x_range=(mixed.shares[0], mixed.shares[-1]),
            y_range=(min(everything) - margin, max(everything) + margin),
            x_label=f"share of the gallery re-encoded by {mixed.new}, %",
            y_label="mAP in %",
            rules=[Rule("y", mean[0], "start")],
            size=(460, 260),
        )
        charts.append({"name": name, "chart": chart})
    return charts


def _mean(counts: np.ndarray) -> str:
    return f"{np.average(np.arange(-STEPS, STEPS + 1) / STEPS, weights=counts):.2f}" if counts.any() else "-"
