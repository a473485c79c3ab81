"""The tables that ``update_docs.py`` puts into the pages, each rendered from committed files of ``results/``."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from switchablecompat.comparison.render import render_headline
from switchablecompat.deploy.profiles.engines import render_engines
from switchablecompat.deploy.profiles.precisions import render_precisions
from switchablecompat.deploy.profiles.submodels import render_profile

from . import comparisons, deployment, grids, measurements
from .markdown import read


def as_printed(render: Callable[[dict[str, Any]], str]) -> Callable[[Path], str]:
    """A table in the form in which a tool prints its result."""
    return lambda path: render(read(path)).strip()


RENDERERS: dict[str, Callable[[Path], str]] = {
    "benchmark": measurements.benchmark_table,
    "grid": grids.grid_table,
    "profile": as_printed(render_profile),
    "precisions": as_printed(render_precisions),
    "rehearsal": deployment.rehearsal_table,
    "engines": as_printed(render_engines),
    "gpu": measurements.gpu_tables,
    "scale_out": measurements.scale_out_table,
    "difficulty": measurements.difficulty_table,
    "comparison": comparisons.comparison_table,
    "backbones": measurements.backbone_table,
    "refinements": grids.refinement_table,
    "headline": partial(comparisons.comparison_table, render=render_headline),
    "differences": partial(comparisons.comparison_table, render=comparisons.difference_table),
    "published": comparisons.published_table,
    "thresholds": grids.threshold_table,
    "mixed": grids.mixed_table,
    "trials": deployment.trial_table,
}
