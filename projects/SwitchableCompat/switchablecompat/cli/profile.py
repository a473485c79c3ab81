"""What each width of a switchable model costs: parameters, multiply-accumulates, file sizes, and measured latency.

Every width is extracted, and timed on this machine's CPU by PyTorch and by onnxruntime, in turns. Writes profile.json
and profile.md (tables, with everything relative to the full model). Weights are optional: cost does not depend on them.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import startup
from switchablecompat.deploy.profiles.submodels import profile, render_profile
from switchablecompat.errors import InputError, exit_on_input_error
from switchablecompat.files import refuse_unwritable, write_texts
from switchablecompat.modeling.opened import open_model

EXAMPLES = """examples:
  python tools/profile_submodels.py --config-file configs/Market1501/sfsc_R50.yml --threads 1 --output outputs/profile
  python tools/profile_submodels.py --weights outputs/demo/model_final.pth --batch 1 --batch 32 --repeats 100 \\
      --output outputs/profile
"""


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = startup.Parser(description=__doc__, epilog=EXAMPLES)
    parser.add_argument("--config-file", default="", metavar="F", help="config of a switchable model: initial weights")
    parser.add_argument("--weights", default="", metavar="W", help="or a checkpoint, whose config may be left out")
    parser.add_argument("--output", required=True, metavar="DIR", help="folder for profile.json and profile.md")
    parser.add_argument(
        "--batch", action="append", default=[], type=int, metavar="N", help="batch size; may be repeated (default 1, 8)"
    )
    parser.add_argument(
        "--threads", type=int, default=1, metavar="N", help="of PyTorch and of onnxruntime (default %(default)s)"
    )
    parser.add_argument("--repeats", type=int, default=50, metavar="N", help="(default %(default)s)")
    parser.add_argument("opts", nargs="*", metavar="KEY VALUE", help="config keys to override")
    arguments = parser.parse_intermixed_args(argv)
    if not arguments.config_file and not arguments.weights:
        parser.error("--config-file or --weights must be given")
    arguments.batch = list(dict.fromkeys(arguments.batch)) or [1, 8]
    for option, value in (
        ("--batch", min(arguments.batch)),
        ("--threads", arguments.threads),
        ("--repeats", arguments.repeats),
    ):
        if value < 1:
            raise InputError(option, "must be at least 1", value)
    return arguments


def main() -> int:
    """Run the command."""
    arguments = parse_arguments()
    refuse_unwritable(arguments.output, "--output")
    opts = [*arguments.opts, "MODEL.DEVICE", "cpu"]
    content = profile(
        open_model(arguments.weights, arguments.config_file, opts),
        batches=arguments.batch,
        threads=arguments.threads,
        repeats=arguments.repeats,
        say=lambda line: print(line, flush=True),
    )
    text, folder = render_profile(content), Path(arguments.output)
    try:
        write_texts(folder, {"profile.json": json.dumps(content, indent=2) + "\n", "profile.md": text})
    except OSError as error:
        raise InputError("--output", "must be a folder that can be written", error) from error
    print(f"\n{text}\nWritten: {folder}/profile.json, {folder}/profile.md")
    return 0


if __name__ == "__main__":
    exit_on_input_error(main)
