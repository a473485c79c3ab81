"""A compatibility grid as files (JSON, CSV, Markdown, heat map) and as text for the terminal."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from ..files import atomic_write, write_texts
from .grid import METRICS, CompatibilityGrid, format_value

CONVENTION = "rows: query sub-model, columns: gallery sub-model"
CRITERION = "not better than the weaker of the two self-tests"
FAIL_COLOUR = "#d7191c"


def write_grid(grid: CompatibilityGrid, folder: str | Path, stem: str = "grid") -> list[Path]:
    """Write ``stem.json``, ``.csv``, ``.md`` and ``.png`` into ``folder``, each complete or not at all; their paths."""
    texts = {".json": render_json(grid), ".csv": render_csv(grid), ".md": render_markdown(grid)}
    paths = write_texts(folder, {f"{stem}{suffix}": text for suffix, text in texts.items()})
    paths.append(Path(folder) / f"{stem}.png")
    with atomic_write(paths[-1]) as temporary:
        draw_heat_map(grid).savefig(temporary, format="png", dpi=150)
    return paths


def render_table(grid: CompatibilityGrid, metric: str = "mAP") -> str:
    """One metric as aligned plain text. In the mAP table ``*`` marks cross-tests that fail the criterion."""
    lines = _rows(grid, metric, mark="*")
    head_width = max(len(head) for head, *_ in lines)
    width = max(len(cell) for _, *cells in lines for cell in cells)
    body = ["  ".join([head.rjust(head_width), *(cell.rjust(width) for cell in cells)]) for head, *cells in lines]
    legend = [f"* {CRITERION}"] if _failed(grid, metric) else []
    return "\n".join([f"{metric} (%), {CONVENTION}", *(line.rstrip() for line in body), *legend])


def render_summary(grid: CompatibilityGrid) -> str:
    """The mAP table and the verdict as plain text, then the same after refinement, if any."""
    lines = [render_table(grid), grid.verdict()]
    if grid.refined:
        lines += [f"After {describe_refinement(grid.refined)}:", render_summary(grid.refined)]
    return "\n".join(lines)


def describe_refinement(refined: CompatibilityGrid) -> str:
    """The refinement of a grid with its options, such as ``aqe (k 5, times 1, alpha 3.0)``."""
    steps = refined.metadata["refinement"].items()
    return ", ".join(f"{name} ({', '.join(f'{key} {item}' for key, item in of.items())})" for name, of in steps)


def render_markdown(grid: CompatibilityGrid) -> str:
    """All defined metrics as Markdown tables, mAP first, and the verdict; then the same after refinement, if any."""
    summary = grid.compatibility()
    parts = [f"# Compatibility grid: {_title(grid)}", f"All values in per cent; **{CONVENTION}**; '-' is not defined."]
    for metric in _defined(grid):
        header, *rows = _rows(grid, metric, mark=" ✗")
        table = [header, ["---:"] * len(header), *rows]
        parts += [f"## {metric}", "\n".join(f"| {' | '.join(line)} |" for line in table)]
        if metric == "mAP":
            legend = f"✗: {CRITERION} of the pair (M_qg > min(M_qq, M_gg) does not hold)."
            parts += [legend] if _failed(grid, metric) else []
            means = {
                "AC (share of the judged cross-tests that pass)": summary["AC"],
                "AM (mean of all cells)": summary["AM"],
                "mean self-test": summary["mean_self"],
                "mean cross-test": summary["mean_cross"],
            }
            sentence = ", ".join(f"{name} {format_value(value)}" for name, value in means.items())
            parts += ["  \n".join([*grid.verdict().splitlines(), f"{sentence}."])]
    text = "\n\n".join(parts) + "\n"
    if grid.refined:
        refined = render_markdown(grid.refined).partition("\n\n")[2]
        text += f"\n# After {describe_refinement(grid.refined)}\n\n{refined}"
    return text


def render_csv(grid: CompatibilityGrid) -> str:
    """One line per cell; an empty value is not defined. Refined cells have the metric ``refined mAP`` and so on."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["metric", "query_width", "gallery_width", "value"])
    grids = {"": grid} if grid.refined is None else {"": grid, "refined ": grid.refined}
    for prefix, one in grids.items():
        for metric in _defined(one):
            for query_width, row in zip(grid.widths, one.values[metric], strict=True):
                for width, value in zip(grid.widths, row, strict=True):
                    writer.writerow([f"{prefix}{metric}", query_width, width, value])
    return text.getvalue()


def render_json(grid: CompatibilityGrid) -> str:
    """The grid's fixed JSON format, with one matrix row per line, so that it is easy to read and compare."""

    def render(value: Any) -> str:
        if isinstance(value, list) and value and isinstance(value[0], list):
            return "[\n    " + ",\n    ".join(json.dumps(row, allow_nan=False) for row in value) + "\n  ]"
        return json.dumps(value, allow_nan=False)

    body = ",\n".join(f"  {json.dumps(key)}: {render(value)}" for key, value in grid.to_dict().items())
    return f"{{\n{body}\n}}\n"


def draw_heat_map(grid: CompatibilityGrid) -> Figure:
    """The mAP matrix as an annotated heat map, without a display. Failing cross-tests are hatched and framed."""
    size, failed = len(grid.widths), _failed(grid, "mAP")
    defined = [value for row in grid.values["mAP"] for value in row if value is not None] or [0.0]
    low, high = min(defined), max(defined)
    figure = Figure(figsize=(max(6.4, 2.2 + 1.1 * size), max(4.4, 2.0 + 0.95 * size)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    shades = np.array(grid.values["mAP"], dtype=float)  # NaN where a cell is not defined
    # Widen a small range, or the colours would exaggerate unimportant differences.
    middle, half = (low + high) / 2, max((high - low) / 2, 1.0)
    image = axes.imshow(shades, cmap="Blues", vmin=middle - 1.25 * half, vmax=middle + 1.25 * half, aspect="auto")
    axes.set_facecolor("#eeeeee")  # shows through where a cell is not defined

    for q, row in enumerate(grid.values["mAP"]):
        for g, value in enumerate(row):
            dark = value is not None and value > middle + 0.2 * half
            text = axes.text(g, q, format_value(value), ha="center", va="center", fontsize=12, zorder=3)
            text.set_fontweight("bold" if q == g else "normal")
            text.set_color("white" if dark and (q, g) not in failed else "black")
            if (q, g) in failed:  # keep the number readable over the hatch
                text.set_bbox({"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": "none"})
    frame: dict[str, Any] = {"fill": False, "hatch": "///", "edgecolor": FAIL_COLOUR, "linewidth": 2.0}
    for q, g in failed:
        axes.add_patch(Rectangle((g - 0.46, q - 0.46), 0.92, 0.92, zorder=2, **frame))

    axes.set_xticks(range(size), map(str, grid.widths))
    axes.set_yticks(range(size), map(str, grid.widths))
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_xlabel("gallery sub-model (width)")
    axes.set_ylabel("query sub-model (width)")
    axes.set_title(f"{_title(grid)}: mAP (%)\n{_tally(grid)}", fontsize=11)
    figure.colorbar(image, ax=axes, label="mAP (%)").outline.set_visible(False)
    legend = {"bold: self-test": Patch(visible=False)}
    if failed:
        legend[f"fails: {CRITERION}"] = Patch(**frame)
    figure.legend([*legend.values()], [*legend], loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    return figure


def _rows(grid: CompatibilityGrid, metric: str, *, mark: str) -> list[list[str]]:
    failed = _failed(grid, metric)
    pad = " " * len(mark) if failed and mark == "*" else ""  # keeps the decimal points of plain text in line
    lines = [["query \\ gallery", *(name + pad for name in grid.names)]]
    for q, name in enumerate(grid.names):
        values = enumerate(grid.values[metric][q])
        lines.append([name, *(format_value(value) + (mark if (q, g) in failed else pad) for g, value in values)])
    return lines


def _failed(grid: CompatibilityGrid, metric: str) -> list[tuple[int, int]]:
    """The cells to mark. The criterion applies to mAP, so other metrics have no marks."""
    return grid.failed_cells() if metric == "mAP" else []


def _tally(grid: CompatibilityGrid) -> str:
    judged, skipped = len(grid.margins()), len(grid.cross_tests()) - len(grid.margins())
    tally = f"{judged - len(grid.failed_cells())} of {judged} cross-tests pass"
    return tally + (f", {skipped} not judged" if skipped else "")


def _defined(grid: CompatibilityGrid) -> list[str]:
    """Metrics with at least one value, and always mAP, because the verdict uses it."""
    return [m for m in METRICS if m == "mAP" or any(value is not None for row in grid.values[m] for value in row)]


def _title(grid: CompatibilityGrid) -> str:
    return ", ".join(str(part) for part in (grid.dataset, grid.metadata.get("method")) if part) or "unnamed data set"
