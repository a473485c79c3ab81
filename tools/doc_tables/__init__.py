"""The tables that ``update_docs.py`` puts into the pages, each rendered from committed files of ``results/``."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from switchablecompat.comparison.render import render_headline

from . import comparisons, deployment, gpu, grids, measurements

RENDERERS: dict[str, Callable[[Path], str]] = {
    "benchmark": measurements.benchmark_table,
    "grid": grids.grid_table,
    "profile": deployment.profile_table,
    "precisions": deployment.precision_table,
    "rehearsal": deployment.rehearsal_table,
    "engines": deployment.engine_table,
    "gpu": gpu.gpu_tables,
    "scale_out": gpu.scale_out_table,
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
