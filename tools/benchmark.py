#!/usr/bin/env python
"""Measure speed and memory as ratios to the limit of the arithmetic, or to a peer in the same run.

Each sub-command measures in interleaved rounds, prints a table (median, quartiles of the ratio, target) and writes a
JSON, from which the tables of the documentation are made. Run nothing else on the machine.
"""

import startup  # noqa: F401  (before torch is loaded)

# isort: split
import argparse
import importlib
import sys
from pathlib import Path

from switchablecompat.cli.parsers.shared import Parser
from switchablecompat.errors import InputError, exit_on_input_error
from switchablecompat.files import refuse_unwritable, write_json

EXAMPLES = """examples:
  python tools/benchmark.py step --threads 2 --batch 16
  python tools/benchmark.py grid --repeats 3 --output results/benchmark
"""
COMMANDS = {  # modules of benchmarks/
    "step": "a training step against the plain sub-models' arithmetic, projection against summation, memory",
    "aggregation": "aggregating m gradients against TorchJD and against the textbook's loop",
    "grid": "the 4 x 4 grid at Market-1501's size against its matrix products and FastReID; memory at MSMT17's",
    "extraction": "features of all widths against one pass over the data and the forwards alone",
    "scaling": "step time over the number of widths, grid time over the gallery, two processes",
    "options": "channels-last memory, bfloat16 and a fused optimiser against the defaults",
}


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(description=__doc__, epilog=EXAMPLES)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, text in COMMANDS.items():
        command = commands.add_parser(name, help=text, description=text, epilog=EXAMPLES)
        command.add_argument("--repeats", type=int, default=5, metavar="N", help="rounds (default %(default)s)")
        command.add_argument("--threads", type=int, default=0, metavar="N", help="of a CPU (default: torch's choice)")
        command.add_argument("--output", metavar="DIR", help="write DIR/COMMAND.json (default: print only)")
        if name != "grid":
            default = "configs/Synthetic/sfsc.yml" if name == "extraction" else "configs/Market1501/sfsc_R50.yml"
            command.add_argument("--config-file", default=default, metavar="F", help="default %(default)s")
            command.add_argument("opts", nargs="*", metavar="KEY VALUE", help="config keys to override")
        if name in ("step", "scaling", "options"):
            command.add_argument("--batch", type=int, default=16, metavar="N", help="images (default %(default)s)")
        if name == "aggregation":
            command.add_argument("--widths", default="2,4,8", metavar="M,M", help="numbers of gradients (%(default)s)")
    arguments = parser.parse_args()
    for option, least in (("repeats", 1), ("batch", 1), ("threads", 0)):
        if getattr(arguments, option, least) < least:
            parser.error(f"--{option} must be at least {least}")
    if arguments.command == "aggregation":
        arguments.widths = read_numbers(arguments.widths, "--widths")
    return arguments


def read_numbers(text: str, option: str) -> list[int]:
    """Parse numbers such as ``2,4,8``."""
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if not numbers or min(numbers) < 2:
        raise InputError(option, "must be numbers of at least 2, such as 2,4,8", text)
    return numbers


def main() -> None:
    """Run the command."""
    arguments = parse_arguments()
    if arguments.output:
        refuse_unwritable(arguments.output, "--output")
    import torch

    from benchmarks import report

    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    rows, more = importlib.import_module(f"benchmarks.{arguments.command}").measure(arguments)
    settings = {key: value for key, value in vars(arguments).items() if key not in ("command", "output", "threads")}
    command = "python tools/benchmark.py " + " ".join(sys.argv[1:])
    content = report.record(arguments.command, command, settings | more, rows)
    print(report.render([content]))
    if arguments.output:
        print(f"Written: {write_json(Path(arguments.output) / f'{arguments.command}.json', content)}")


if __name__ == "__main__":
    exit_on_input_error(main)
