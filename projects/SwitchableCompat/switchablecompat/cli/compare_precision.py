"""Compare every cell of a trained model in float32 and in another precision."""

import argparse
import os
from typing import Any

import torch
import torch.nn.functional as F
from tabulate import tabulate

from ..choices import FULL
from ..evaluation.evaluator import evaluate_task
from ..evaluation.grid import CompatibilityGrid
from ..evaluation.task import RetrievalTask
from ..files import write_json
from .models import open_evaluation

METRICS = ("mAP", "Rank-1")


def measure(arguments: argparse.Namespace, precision: str) -> tuple[RetrievalTask, CompatibilityGrid]:
    task = open_evaluation(arguments, "TEST.PRECISION", precision).task
    return task, evaluate_task(task)[0]


def compare(full: CompatibilityGrid, other: CompatibilityGrid) -> list[dict[str, Any]]:
    """One row per defined cell: both values of each metric in per cent, and their difference in percentage points."""
    rows = []
    for q, query in enumerate(full.names):
        for g, gallery in enumerate(full.names):
            row: dict[str, Any] = {"query": query, "gallery": gallery}
            for metric in METRICS:
                one, two = full.values[metric][q][g], other.values[metric][q][g]
                if one is None or two is None:
                    break
                row[metric] = {FULL: one, "other": two, "difference": two - one}
            else:
                rows.append(row)
    return rows


def main(arguments: argparse.Namespace) -> int:
    full, full_grid = measure(arguments, FULL)
    other, other_grid = measure(arguments, arguments.precision)
    cells = compare(full_grid, other_grid)
    cosines = {}
    for index, name in enumerate(full_grid.names):
        sides = ((full.query, other.query), (full.gallery, other.gallery))
        cosine = torch.cat([F.cosine_similarity(one[index], two[index]) for one, two in sides])
        cosines[name] = {"lowest": float(cosine.min()), "mean": float(cosine.mean())}
    content = {"format": 1, "dataset": full.dataset, "precision": arguments.precision}
    largest = max((abs(row[metric]["difference"]) for row in cells for metric in METRICS), default=0.0)
    content |= {"cells": cells, "largest_difference": largest, "feature_cosines": cosines, "grid": full_grid.to_dict()}
    path = write_json(os.path.join(arguments.output, "precision.json"), content)

    table = [
        [row["query"], row["gallery"]]
        + [text for m in METRICS for text in (f"{row[m][FULL]:.2f}", f"{row[m]['difference']:+.3f}")]
        for row in cells
    ]
    headers = ["query", "gallery", *(text for m in METRICS for text in (m, "difference"))]
    print(tabulate(table, headers, disable_numparse=True))
    rows = [[name, f"{value['lowest']:.6f}", f"{value['mean']:.6f}"] for name, value in cosines.items()]
    print(tabulate(rows, ["features", "lowest cosine", "mean cosine"], disable_numparse=True))
    print(f"{arguments.precision} against {FULL}: at most {largest:.3f} points in a cell", f"Written: {path}", sep="\n")
    return 0
