"""A report on a family of sub-models: what holds, where it breaks, and which thresholds to use.

Runs the models once over a test set and writes report.html (one page that needs nothing else: grid, CMC curves,
similarities, thresholds of every cell and of the family, negative flips with pictures, a gallery that is re-encoded
step by step), report.json with all figures, and queries.csv with every query in every cell. See docs/report.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import startup
from model_arguments import add_model_arguments, parse_model_arguments, read_pairs, read_sources
from switchablecompat.engine.trained_task import log_to_screen, open_task
from switchablecompat.errors import InputError, exit_on_input_error
from switchablecompat.evaluation.grid_files import render_summary
from switchablecompat.family.report import build_report
from switchablecompat.family.report_files import write_report
from switchablecompat.files import refuse_unwritable

EXAMPLES = """examples:
  python tools/report.py --weights outputs/demo/model_final.pth --output outputs/demo/report
  python tools/report.py --weights outputs/demo/model_final.pth --output outputs/demo/report_mine \\
      --dataset ManifestReID DATASETS.MANIFEST my_images/manifest.csv
"""


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = startup.Parser(description=__doc__, epilog=EXAMPLES)
    add_model_arguments(parser)
    return parse_model_arguments(parser, argv)


def main() -> int:
    """Run the command."""
    arguments = parse_arguments()
    sources, undefined = read_sources(arguments), read_pairs(arguments.undefined)
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
    report = build_report(found.task, found.images, refinement=found.refinement, labels=found.labels)
    try:
        files = write_report(report, arguments.output)
    except OSError as error:
        raise InputError("--output", "must be a folder that can be written", error) from error
    print(render_summary(report.grid), "Written: " + ", ".join(map(str, files)), sep="\n")
    return 0


if __name__ == "__main__":
    exit_on_input_error(main)
