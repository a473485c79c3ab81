"""What int8 and float16 cost and gain at each width: file size, latency in onnxruntime on one thread, mAP in each cell.

Writes precisions.json and precisions.md. mAP is that of searches on the config's test set: queries by the file, gallery
by each width in float32, and by the file itself.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import startup
from model_arguments import CONFIG_HELP
from switchablecompat.deploy.files.held_out import CALIBRATION, HeldOut, calibration_pictures
from switchablecompat.deploy.files.low_precision import MAX_DROP
from switchablecompat.deploy.profiles.precisions import profile_precisions, render_precisions
from switchablecompat.errors import InputError, exit_on_input_error
from switchablecompat.files import refuse_unwritable, write_texts
from switchablecompat.modeling.opened import open_model

EXAMPLES = """example:
  python tools/profile_precisions.py --config-file outputs/demo/config.yaml --weights outputs/demo/model_final.pth \\
      --output outputs/demo/precisions
"""


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = startup.Parser(description=__doc__, epilog=EXAMPLES)
    parser.add_argument("--weights", required=True, metavar="W", help="checkpoint of the trained model")
    parser.add_argument("--config-file", default="", metavar="F", help=CONFIG_HELP)
    parser.add_argument("--output", required=True, metavar="DIR", help="folder for precisions.json and precisions.md")
    parser.add_argument("--repeats", type=int, default=50, metavar="N", help="of each timing (default %(default)s)")
    parser.add_argument(
        "--calibration-images", type=int, default=CALIBRATION, metavar="N", help="training images (default %(default)s)"
    )
    parser.add_argument(
        "--max-map-drop",
        type=float,
        default=MAX_DROP,
        metavar="P",
        help="most points of mAP that a cell may lose before layers stay in float32 (default %(default)g)",
    )
    parser.add_argument("opts", nargs="*", metavar="KEY VALUE", help="config keys to override")
    arguments = parser.parse_intermixed_args(argv)
    for option in ("repeats", "calibration_images"):
        if getattr(arguments, option) < 1:
            raise InputError(f"--{option.replace('_', '-')}", "must be at least 1", getattr(arguments, option))
    if not arguments.max_map_drop >= 0:  # so that NaN is refused too
        raise InputError("--max-map-drop", "must not be negative", arguments.max_map_drop)
    return arguments


def main() -> int:
    """Run the command."""
    arguments = parse_arguments()
    refuse_unwritable(arguments.output, "--output")
    model = open_model(arguments.weights, arguments.config_file, [*arguments.opts, "MODEL.DEVICE", "cpu"])
    content = profile_precisions(
        model,
        HeldOut(model),
        calibration_pictures(model, arguments.calibration_images),
        max_drop=arguments.max_map_drop,
        repeats=arguments.repeats,
        say=lambda line: print(line, flush=True),
    )
    text, folder = render_precisions(content), Path(arguments.output)
    try:
        write_texts(folder, {"precisions.json": json.dumps(content, indent=2) + "\n", "precisions.md": text})
    except OSError as error:
        raise InputError("--output", "must be a folder that can be written", error) from error
    print(f"\n{text}\nWritten: {folder}/precisions.json, {folder}/precisions.md")
    return 0


if __name__ == "__main__":
    exit_on_input_error(main)
