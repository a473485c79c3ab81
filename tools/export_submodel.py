"""One width of a switchable model, or all of them, as files that need no switchable network.

Each goes to a folder of its own below --output, such as w025-onnx/, with its card model.json beside it:
  checkpoint  FastReID's checkpoint and config.yaml, for its DefaultPredictor
  onnx        one ONNX file: images [N, 3, H, W] (float32, RGB, 0-255) in, L2-normalised features [N, D] out
  program     the same contract as a program of torch.export, which needs PyTorch alone
A file gets its name only if its features are the switchable network's on 8 real images, one by one and as one batch.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import startup
from model_arguments import CONFIG_HELP
from switchablecompat.deploy.card import KINDS
from switchablecompat.deploy.export import TOLERANCE, export_folder, export_submodel, packages
from switchablecompat.deploy.images import preprocessing_of
from switchablecompat.deploy.parity import parity_images
from switchablecompat.deploy.run import TrainedRun
from switchablecompat.errors import InputError, exit_on_input_error
from switchablecompat.files import refuse_unwritable

EXAMPLES = """examples:
  python tools/export_submodel.py --weights outputs/demo/model_final.pth --width 0.25 --kind onnx \\
      --output outputs/export
  python tools/export_submodel.py --weights outputs/demo/model_final.pth --all --images my_images \\
      --output outputs/export
"""


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = startup.Parser(description=__doc__, epilog=EXAMPLES)
    parser.add_argument("--weights", required=True, metavar="W", help="checkpoint of the trained model")
    parser.add_argument("--config-file", default="", metavar="F", help=CONFIG_HELP)
    parser.add_argument(
        "--width", action="append", default=[], type=float, metavar="X", help="which one, such as 0.25; may be repeated"
    )
    parser.add_argument("--all", action="store_true", help="all widths")
    parser.add_argument(
        "--kind", action="append", default=[], choices=KINDS, help="which files; may be repeated (default: all three)"
    )
    parser.add_argument("--output", required=True, metavar="DIR", help="parent of the folders")
    parser.add_argument(
        "--images", default="", metavar="DIR", help="images to compare features on (default: the config's test set)"
    )
    parser.add_argument(
        "--tolerance",
        type=float,
        default=TOLERANCE,
        metavar="T",
        help="largest accepted difference of a component of the L2-normalised features, of onnx and program (default "
        "%(default)g); a checkpoint must give the same bits",
    )
    parser.add_argument("opts", nargs="*", metavar="KEY VALUE", help="config keys to override")
    arguments = parser.parse_intermixed_args(argv)
    if bool(arguments.width) == arguments.all:
        parser.error("either --width or --all must be given")
    if not arguments.tolerance >= 0:  # so that NaN is refused too
        raise InputError("--tolerance", "must not be negative", arguments.tolerance)
    return arguments


def main() -> int:
    """Run the command."""
    arguments = parse_arguments()
    kinds = list(dict.fromkeys(arguments.kind or KINDS))
    for kind in kinds:
        packages(kind)  # what is missing is better said before any work
    # On the CPU, wherever it was trained: there the bits can be compared.
    run = TrainedRun.load(arguments.config_file, arguments.weights, [*arguments.opts, "MODEL.DEVICE", "cpu"])
    widths = run.widths if arguments.all else tuple(dict.fromkeys(arguments.width))
    for width in widths:
        run.model.switch.index_of(width)
        for kind in kinds:
            refuse_unwritable(export_folder(arguments.output, width, kind), "--output")
    images, source = parity_images(run.cfg, preprocessing_of(run.cfg), arguments.images)
    for width in widths:
        for kind in kinds:
            try:
                folder, card = export_submodel(
                    run, width, kind, arguments.output, images, source, tolerance=arguments.tolerance
                )
            except OSError as error:
                raise InputError("--output", "must be a folder that can be written", error) from error
            found = card.extra["parity"]["largest_difference"]
            differences = ", ".join(f"{value:.1e} ({key.replace('_', ' ')})" for key, value in found.items())
            print(f"{folder}/{card.file}: {card.file_bytes:,} bytes, largest difference {differences}", flush=True)
    return 0


if __name__ == "__main__":
    exit_on_input_error(main)
