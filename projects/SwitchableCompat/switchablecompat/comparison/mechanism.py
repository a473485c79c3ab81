"""Compare the diagnostics of trainings: conflicts, gradients, losses and uncertainty over the iterations.

Every run logs these figures to ``metrics.json``. A record keeps them in one small file, so that the picture can be
drawn again without the runs.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..errors import InputError
from ..files import atomic_write

METRICS = "metrics.json"
# Prefixes of the keys that a record keeps.
KEPT = ("conflict_rate", "grad_norm_", "grad_cosine_", "loss_", "uncertainty_", "certainty_", "classifier_share_")
PANELS = (
    ("conflict_rate_", "conflicts (% of pairs)", 100.0),
    ("grad_norm_", "gradient norm", 1.0),
    ("grad_cosine_", "cosine of two gradients", 1.0),
    ("loss_compat_", "compatible loss", 1.0),
    ("uncertainty_", "uncertainty", 1.0),
    ("classifier_share_", "share in class vectors", 1.0),
)


def read_history(folder: str | Path) -> dict[str, Any]:
    """Read the diagnostics of a run from its OUTPUT_DIR.

    Returns:
        ``iteration``, ascending, and each kept key with its values at these iterations, None if it was not logged.
        Iterations that a run repeated, because it was killed and resumed, have the values of the last time.

    Raises:
        InputError: The folder has no readable ``metrics.json``, or the file logs no training.
    """
    path = Path(folder) / METRICS
    try:
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError) as error:
        raise InputError(str(path), "must be the readable log of a run", error) from None
    lines = [line for line in lines if "total_loss" in line]  # the others are evaluations
    if not lines:
        raise InputError(str(path), "must hold the log of a training", "none")
    latest = {line["iteration"]: line for line in lines}
    lines = [latest[iteration] for iteration in sorted(latest)]
    keys = sorted({key for line in lines for key in line if key.startswith(KEPT)})
    return {"iteration": [line["iteration"] for line in lines]} | {
        key: [line.get(key) for line in lines] for key in keys
    }


def draw_mechanism(runs: Mapping[str, Mapping[str, Any]], path: str | Path) -> None:
    """Draw the histories of runs, by title, into a PNG: one column per run and one row per kind of diagnostic
    that a run logged."""
    logged = [key for history in runs.values() for key in history]
    panels = [panel for panel in PANELS if any(key.startswith(panel[0]) for key in logged)]
    figure = Figure(figsize=(1.0 + 3.6 * len(runs), 1.9 * len(panels)), layout="constrained")
    grid = figure.subplots(len(panels), len(runs), squeeze=False, sharex=True, sharey="row")
    for row, (start, label, factor) in zip(grid, panels, strict=True):
        for axes, (title, history) in zip(row, runs.items(), strict=True):
            _draw_panel(axes, history, start, factor)
            axes.grid(alpha=0.3)
            if axes in grid[0]:
                axes.set_title(title)
            if axes in grid[-1]:
                axes.set_xlabel("iteration")
        row[0].set_ylabel(label)
    with atomic_write(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110)


def _draw_panel(axes: Axes, history: Mapping[str, Any], start: str, factor: float) -> None:
    for key in sorted(key for key in history if key.startswith(start)):
        values = [math.nan if value is None else factor * value for value in history[key]]
        axes.plot(history["iteration"], values, label=key.removeprefix(start).replace("backbone.", ""), linewidth=1)
    if axes.lines:
        axes.legend(fontsize=6, ncols=2, frameon=False)
