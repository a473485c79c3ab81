"""The compatibility grid of trained models: one switchable checkpoint, several separate ones, or a mix.

Rows are query sub-models, columns are gallery sub-models. Every model is run once over the same test set; models whose
features cannot be compared (other preprocessing or dimension) are refused. Writes grid.json, .csv, .md and .png, and
queries.npz with the rank of the first match and the average precision of every query in every cell.

With --require it is a gate: exit code 1 if the grid does not meet a file's requirements (docs/report.md), one line for
each that is broken; the files are written all the same. Exit code 2 on bad usage or input.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence

import startup
from model_arguments import add_model_arguments, parse_model_arguments, read_pairs, read_sources
from switchablecompat.engine.trained_task import log_to_screen, open_task
from switchablecompat.errors import InputError, exit_on_input_error
from switchablecompat.evaluation.evaluator import evaluate_task
from switchablecompat.evaluation.grid_files import render_summary, write_grid
from switchablecompat.family.requirements import broken_requirements, read_requirements
from switchablecompat.files import refuse_unwritable

EXAMPLES = """examples:
  python tools/cross_test.py --weights outputs/demo/model_final.pth --output outputs/demo/cross_test \\
      --require require.yaml
  python tools/cross_test.py --model 0.25=outputs/bct/w025 --model 1.0=outputs/unified/w100 --undefined 1.0,1.0 \\
      --output outputs/bct/grid MODEL.DEVICE cpu
"""


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = startup.Parser(description=__doc__, epilog=EXAMPLES)
    add_model_arguments(parser)
    parser.add_argument("--require", metavar="FILE", help="yaml or JSON of what the grid must reach")
    return parse_model_arguments(parser, argv)


def main() -> int:
    """Run the command."""
    arguments = parse_arguments()
    sources, undefined = read_sources(arguments), read_pairs(arguments.undefined)
    requirements = read_requirements(arguments.require) if arguments.require else None
    refuse_unwritable(arguments.output, "--output")
    log_to_screen()
    found = open_task(
        sources,
        arguments.opts,
        dataset=arguments.dataset,
        method=arguments.method,
        undefined=undefined,
        diagonal_only=arguments.diagonal_only,
    )
    grid, queries = evaluate_task(found.task, found.refinement)
    try:
        files = write_grid(grid, arguments.output)
        files.append(queries.write(os.path.join(arguments.output, "queries.npz")))
    except OSError as error:
        raise InputError("--output", "must be a folder that can be written", error) from error
    print(render_summary(grid), "Written: " + ", ".join(map(str, files)), sep="\n")
    if requirements is None:
        return 0
    broken = broken_requirements(requirements, grid)
    for one in broken:
        print(f"Broken: {one}")
    print(f"{arguments.require}: " + (f"{len(broken)} broken." if broken else "all requirements hold."))
    return 1 if broken else 0


if __name__ == "__main__":
    exit_on_input_error(main)
