"""Evaluate the compatibility grid of trained models, and check it against requirements."""

import argparse
import os

from ..evaluation.evaluator import evaluate_task
from ..evaluation.grid_files import render_summary, write_grid
from ..family.requirements import broken_requirements, read_requirements
from .models import open_evaluation


def main(arguments: argparse.Namespace) -> int:
    requirements = read_requirements(arguments.require) if arguments.require else None
    found = open_evaluation(arguments)
    grid, queries = evaluate_task(found.task, found.refinement)
    files = [*write_grid(grid, arguments.output), queries.write(os.path.join(arguments.output, "queries.npz"))]
    print(render_summary(grid), "Written: " + ", ".join(map(str, files)), sep="\n")
    if requirements is None:
        return 0
    broken = broken_requirements(requirements, grid)
    for one in broken:
        print(f"Broken: {one}")
    print(f"{arguments.require}: " + (f"{len(broken)} broken." if broken else "all requirements hold."))
    return 1 if broken else 0
