"""Tables of one trained family: its grid, refined grids, and what ``report.json`` says of it."""

from pathlib import Path
from statistics import fmean

import numpy as np

from switchablecompat.evaluation.grid import CompatibilityGrid
from switchablecompat.evaluation.grid_files import render_table

from .markdown import made_with, read, table

REFINEMENTS = {
    "plain": "plain",
    "flip": "flip test",
    "aqe": "AQE",
    "rerank": "re-ranking",
    "aqe_rerank": "AQE, then re-ranking",
}


def passed(grid: CompatibilityGrid) -> str:
    """How many cross-tests pass, such as ``11 of 12``."""
    return f"{len(grid.cross_tests()) - len(grid.failed_cells())} of {len(grid.cross_tests())}"


def grid_table(path: Path) -> str:
    """The mAP grid and its verdict in the form that a run prints."""
    content = read(path)
    grid = CompatibilityGrid.from_dict(content)
    return f"```text\n{render_table(grid, 'mAP')}\n{grid.verdict()}\n```\n\n({made_with(content)})"


def refinement_table(path: Path) -> str:
    """mAP of the outermost cells, plain and with FastReID's test options, from a folder of grids."""
    rows, plain = [], read(path / "plain.json")
    for file, title in REFINEMENTS.items():
        grid = CompatibilityGrid.from_dict(read(path / f"{file}.json"))
        grid = grid.refined or grid
        last = len(grid.widths) - 1
        rows.append([title, *(grid[cell] for cell in ((0, 0), (last, last), (0, last), (last, 0))), passed(grid)])
    small, *_, large = grid.names
    headers = ["mAP (%)", small, large, f"{small} on {large}", f"{large} on {small}", "cross-tests that pass"]
    return table(headers, rows, made_with(plain), floatfmt=".2f")


def threshold_table(path: Path) -> str:
    """The cost of shared thresholds, from ``report.json``: one line per target FAR."""
    content = read(path)
    rows = []
    for one in content["verification"]:
        pooled = [cell["FAR"] / one["target_FAR"] for cell in one["pooled"]["cells"].values()]
        cells = (one["own"], one["pooled"]["cells"], one["strictest"]["cells"])
        tar = [f"{fmean(cell['TAR'] for cell in each.values()):.1f}" for each in cells]
        rows.append([f"{one['target_FAR']:g}", f"{min(pooled):.2f} to {max(pooled):.2f}", *tar])
    headers = ["target FAR", "FAR of single cells at `pooled`, in targets", "mean TAR (%): `own`", "`pooled`"]
    return table([*headers, "`strictest`"], rows, made_with(content["grid"]))


def mixed_table(path: Path) -> str:
    """mAP while a gallery is re-encoded, from ``report.json``: one line per query sub-model."""
    content = read(path)
    mixed, rows = content["mixed_gallery"], []
    for name, curves in mixed["random"].items():
        random, isolated = np.array(curves), np.array(mixed["isolated"][name])
        mean = random.mean(axis=0)
        way = slice(1, -1)
        levels = [mean[0], mean[-1], mean[way].min(), np.ptp(random[:, way], axis=0).max()]
        rows.append([name, *(f"{level:.1f}" for level in levels), f"{(isolated - mean)[way].mean():+.1f}"])
    headers = ["queries by", f"mAP (%) on {mixed['old']}", f"on {mixed['new']}", "lowest on the way, random orders"]
    headers += ["largest gap between random orders", "isolated first minus random, mean over the way"]
    return table(headers, rows, made_with(content["grid"]))
