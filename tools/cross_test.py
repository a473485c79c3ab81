"""The compatibility grid of trained models: one switchable checkpoint, several separate ones, or a mix.

Rows are query sub-models, columns are gallery sub-models. Every model is run once over the same test set; models whose
features cannot be compared (other preprocessing or dimension) are refused. Writes grid.json, .csv, .md and .png, and
queries.npz with the rank of the first match and the average precision of every query in every cell.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence

import startup
from switchablecompat.engine.cross_test import Source, cross_test_sources, log_to_screen
from switchablecompat.errors import InputError, exit_on_input_error
from switchablecompat.evaluation.report import render_table, write_report
from switchablecompat.widths import width_name

EXAMPLES = """examples:
  python tools/cross_test.py --config-file outputs/demo/config.yaml --weights outputs/demo/model_final.pth \\
      --output outputs/demo/cross_test
  python tools/cross_test.py --model 0.25=outputs/bct/w025 --model 1.0=outputs/unified/w100 --undefined 1.0,1.0 \\
      --output outputs/bct/grid MODEL.DEVICE cpu
"""


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = startup.Parser(description=__doc__, epilog=EXAMPLES)
    parser.add_argument("--config-file", metavar="F", help="config of a switchable model: all its widths take part")
    parser.add_argument("--weights", metavar="W", help="its checkpoint")
    parser.add_argument(
        "--model",
        action="append",
        default=[],
        metavar="WIDTH=RUN_DIR",
        help="sub-model of this width from a training run (config.yaml and model_final.pth there); may be repeated",
    )
    parser.add_argument("--output", required=True, metavar="DIR", help="folder for the files")
    parser.add_argument("--dataset", default="", metavar="NAME", help="evaluate on this one (default: first config's)")
    parser.add_argument("--method", default="", metavar="NAME", help="name to record (default: from the configs)")
    parser.add_argument(
        "--undefined",
        action="append",
        default=[],
        metavar="QUERY,GALLERY",
        help="widths of a cell that the method does not define, printed '-'; may be repeated",
    )
    parser.add_argument("--diagonal-only", action="store_true", help="self-tests only: models that share no space")
    parser.add_argument("opts", nargs="*", metavar="KEY VALUE", help="config keys to override in every config")
    arguments = parser.parse_intermixed_args(argv)
    if bool(arguments.config_file) != bool(arguments.weights):
        parser.error("--config-file and --weights go together")
    if not arguments.config_file and not arguments.model:
        parser.error("--config-file with --weights, or --model, must be given")
    return arguments


def read_sources(arguments: argparse.Namespace) -> list[Source]:
    """The models that the command line names, the switchable one first."""
    sources = [Source(arguments.config_file, arguments.weights)] if arguments.config_file else []
    for text in arguments.model:
        width, separator, folder = text.partition("=")
        if not separator or not os.path.isdir(folder):
            raise InputError("--model", "must be WIDTH=RUN_DIR with an existing folder", text)
        sources.append(Source.of_run(folder, read_width(width, "--model", text)))
    return sources


def read_pairs(texts: Sequence[str]) -> list[tuple[float, float]]:
    """The undefined cells as (query width, gallery width)."""
    pairs = []
    for text in texts:
        widths = text.split(",")
        if len(widths) != 2:
            raise InputError("--undefined", "must be QUERY,GALLERY widths, such as 1.0,1.0", text)
        query, gallery = (read_width(width, "--undefined", text) for width in widths)
        pairs.append((query, gallery))
    return pairs


def read_width(text: str, option: str, found: str) -> float:
    """A width multiplier."""
    try:
        width_name(float(text))
    except ValueError:
        raise InputError(option, "must have width multipliers in (0, 1]", found) from None
    return float(text)


def main() -> int:
    """Run the command."""
    arguments = parse_arguments()
    sources, undefined = read_sources(arguments), read_pairs(arguments.undefined)
    log_to_screen()
    grid, queries = cross_test_sources(
        sources,
        arguments.opts,
        dataset=arguments.dataset,
        method=arguments.method,
        undefined=undefined,
        diagonal_only=arguments.diagonal_only,
    )
    try:
        files = write_report(grid, arguments.output)
        files.append(queries.write(os.path.join(arguments.output, "queries.npz")))
    except OSError as error:
        raise InputError("--output", "must be a folder that can be written", error) from error
    print(render_table(grid), grid.verdict(), "Written: " + ", ".join(map(str, files)), sep="\n")
    return 0


if __name__ == "__main__":
    exit_on_input_error(main)
