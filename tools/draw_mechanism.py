#!/usr/bin/env python
"""Draw the diagnostics of trainings: conflicts by part of the network, gradients, losses, uncertainty."""

import startup  # before torch is loaded

# isort: split
import json
from pathlib import Path

from switchablecompat.cli.parsers.shared import Parser
from switchablecompat.errors import InputError, exit_on_input_error
from switchablecompat.files import refuse_unwritable, write_json

EXAMPLES = """examples:
  python tools/draw_mechanism.py --run BCT-S=outputs/suites/pretrained/bct_s/seed0 \\
      --run SFSC=outputs/suites/pretrained/sfsc/seed0 --output results/pretrained
  python tools/draw_mechanism.py --record results/pretrained/mechanism.json --output results/pretrained
"""


def main() -> None:
    """Run the command."""
    parser = Parser(description=__doc__, epilog=EXAMPLES)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--run", action="append", metavar="TITLE=DIR", help="a run's OUTPUT_DIR; may be repeated")
    source.add_argument("--record", metavar="JSON", help="an earlier mechanism.json to draw again")
    parser.add_argument("--output", required=True, metavar="DIR", help="folder for mechanism.json and mechanism.png")
    arguments = parser.parse_args()
    refuse_unwritable(arguments.output, "--output")
    startup.load()
    from switchablecompat.comparison.mechanism import draw_mechanism, read_history
    from switchablecompat.provenance import hardware, versions

    folder = Path(arguments.output)
    if arguments.record:
        try:
            runs = json.loads(Path(arguments.record).read_text(encoding="utf-8"))["runs"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError("--record", "must be a readable mechanism.json", error) from None
    else:
        runs = {}
        for text in arguments.run:
            title, separator, run = text.partition("=")
            if not (separator and title and run):
                raise InputError("--run", "must be TITLE=DIR", text)
            runs[title] = read_history(run)
        content = {"format": 1, "runs": runs, "versions": versions(), "hardware": hardware()}
        write_json(folder / "mechanism.json", content)
    draw_mechanism(runs, folder / "mechanism.png")
    print(f"Written: {folder}/mechanism.png")


if __name__ == "__main__":
    exit_on_input_error(main)
