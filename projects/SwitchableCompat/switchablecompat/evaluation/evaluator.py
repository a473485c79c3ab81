"""Evaluate the compatibility grid of a model on a test set, in FastReID's protocol."""

import logging
import os
import time
from collections.abc import Mapping, Sequence
from typing import Any, cast

from fastreid.config import CfgNode
from fastreid.data import CommDataset
from torch import Tensor
from torch.utils.data import DataLoader

from ..errors import InputError
from ..modeling import SwitchableBaseline
from ..modeling.trained import run_record
from ..provenance import family_digest, hardware, json_digest, versions
from ..settings import feature_settings, preprocessing_of
from .cells import QueryResults, rank_cells
from .features import Features, extract_features
from .gallery_draws import check_drawable, draw_gallery, mean_grid
from .grid import CompatibilityGrid, grid_from_cells
from .refinement import Refinement, refine_cells
from .task import RetrievalTask, normalised

logger = logging.getLogger("fastreid.switchablecompat.evaluation")


def evaluate_grid(
    cfg: CfgNode,
    model: SwitchableBaseline,
    loader: DataLoader,
    num_query: int,
    dataset: str,
    record: Mapping[str, Any] | None = None,
) -> CompatibilityGrid | None:
    """All self-tests and cross-tests of a switchable model on one test set.

    Args:
        cfg: Config. ``TEST.FLIP.ENABLED``, ``TEST.AQE``, ``TEST.RERANK`` and ``TEST.GALLERY_DRAWS`` take effect.
        loader: FastReID's test loader: the first ``num_query`` images are the queries, the rest is the gallery.
        record: The run that trained the model (``run_record``). Default: the run that ``cfg`` describes.

    Returns:
        The grid, with its :attr:`~.grid.CompatibilityGrid.refined` grid if there is one; None on all ranks but the
        first.

    Raises:
        InputError: Features are not finite, no query has a match in the gallery, or ``cfg`` asks for gallery draws from
            a data set with a fixed gallery.
    """
    items = cast(CommDataset, loader.dataset).img_items
    total = len(items)
    if not 0 < num_query < total:
        found = f"{num_query} and {total - num_query}"
        raise InputError(f"data set {dataset}", "needs query and gallery images", found)
    start = time.perf_counter()
    features = extract_features(model, loader, flip=cfg.TEST.FLIP.ENABLED, precision=cfg.TEST.PRECISION)
    if features is None:
        return None
    extracted = time.perf_counter()
    family = family_digest(model.state_dict(), feature_settings(cfg))
    metadata = grid_metadata(cfg, family, items, num_query, record)
    grid = grid_of_features(cfg, features, model.switch.widths, num_query, dataset, metadata)
    seconds = (extracted - start, time.perf_counter() - extracted)
    logger.debug("{}: {} images, features in {:.1f} s, grid in {:.1f} s".format(dataset, total, *seconds))
    return grid


def grid_of_features(
    cfg: CfgNode,
    features: Features,
    widths: Sequence[float],
    num_query: int,
    dataset: str,
    metadata: Mapping[str, Any] | None = None,
) -> CompatibilityGrid:
    """Evaluate a grid as :func:`evaluate_grid` does, from features that exist, queries first."""
    splits: list[tuple[slice | Tensor, slice | Tensor]] = [(slice(num_query), slice(num_query, None))]
    if cfg.TEST.GALLERY_DRAWS > 1:
        pids = features.pids.numpy()
        check_drawable(pids[num_query:].tolist(), dataset)
        splits = [draw_gallery(pids, seed) for seed in range(cfg.TEST.GALLERY_DRAWS)]
    values, labels = normalised(features.values), (features.pids, features.camids)
    others: dict[str, Any] = {"dataset": dataset, "metadata": metadata or {}}
    tasks = (RetrievalTask.of_images(widths, values, labels, *split, **others) for split in splits)
    grids = [evaluate_task(task, Refinement.from_config(cfg))[0] for task in tasks]
    return mean_grid(grids) if len(grids) > 1 else grids[0]


def evaluate_task(task: RetrievalTask, refinement: Refinement | None = None) -> tuple[CompatibilityGrid, QueryResults]:
    """The grid of all defined self-tests and cross-tests, and the results of each query in each cell.

    A refinement makes the grid's :attr:`~.grid.CompatibilityGrid.refined` cells.
    """
    cells = rank_cells(task)
    grid = grid_from_cells(cells, task.widths, task.dataset, metadata=task.metadata)
    queries = QueryResults.from_cells(cells, task.widths, grid.metadata.get("family", ""))
    if refinement:
        how, refined = {"refinement": refinement.to_dict()}, refine_cells(task, refinement)
        grid = grid.with_refined(grid_from_cells(refined, task.widths, task.dataset, metadata=how))
    return grid, queries


def grid_metadata(
    cfg: CfgNode, family: str, items: Sequence[tuple[Any, ...]], num_query: int, record: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The metadata of a grid for a model with this config, on FastReID's items (file, pid, camid), queries first."""
    record = run_record(cfg) if record is None else record
    listed = [[os.path.basename(path), str(pid), str(camid)] for path, pid, camid, *_ in items]
    sides = (sorted(listed[:num_query]), sorted(listed[num_query:]))
    return {
        **{key: record.get(key) for key in ("method", "seed", "config")},
        "family": family,
        "preprocessing": preprocessing_of(cfg),
        "flip": cfg.TEST.FLIP.ENABLED,
        "precision": cfg.TEST.PRECISION,
        "num_query": num_query,
        "num_gallery": len(items) - num_query,
        "test_set": json_digest(sides),
        "versions": versions(),
        "hardware": hardware(),
    }
