#!/usr/bin/env python
"""Describe the generated data set: its difficulty without learning, the time to draw it, and samples.

Writes the figures as JSON and a sheet of samples as JPEG.
"""

import startup  # noqa: F401  (before torch is loaded)

# isort: split
import json
from pathlib import Path

from switchablecompat.cli.parsers.shared import Parser
from switchablecompat.errors import exit_on_input_error
from switchablecompat.files import refuse_unwritable_file, write_json

COMMAND = "python tools/describe_synthetic.py --json results/synthetic/difficulty.json --sheet docs/synthetic.jpg"


def main() -> None:
    """The command line."""
    parser = Parser(description=__doc__, epilog=f"example: {COMMAND}")
    parser.add_argument("--json", type=Path, required=True, metavar="FILE", help="file for the figures")
    parser.add_argument("--sheet", type=Path, metavar="FILE", help="file for a sheet of samples (JPEG)")
    args = parser.parse_args()
    refuse_unwritable_file(args.json, "--json")
    if args.sheet:
        refuse_unwritable_file(args.sheet, "--sheet")
    from benchmarks import synthetic

    figures = {"command": COMMAND, **synthetic.measure(args.sheet)}
    write_json(args.json, figures)
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    exit_on_input_error(main)
