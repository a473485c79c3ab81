"""One width of a switchable model, or all of them, as files that need no switchable network.

Each goes to a folder of its own below --output, such as w025-onnx/, with its card model.json beside it:
  checkpoint  FastReID's checkpoint and config.yaml, for its DefaultPredictor
  onnx        one ONNX file: images [N, 3, H, W] (float32, RGB, 0-255) in, L2-normalised features [N, D] out
  program     the same contract as a program of torch.export, which needs PyTorch alone
A file gets its name only if its features are the switchable network's on 8 real images, one by one and as one batch.

--precision int8 or float16 writes such ONNX files, w025-onnx-int8/; these get their name only if searches by them, on
the config's test set, in galleries of every width in float32, lose at most --max-map-drop.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import startup
from model_arguments import CONFIG_HELP
from switchablecompat.deploy.card import KINDS, ModelCard
from switchablecompat.deploy.files.export import TOLERANCE, export_folder, export_submodel, packages
from switchablecompat.deploy.files.held_out import CALIBRATION, HeldOut, calibration_pictures
from switchablecompat.deploy.files.low_precision import MAX_DROP, REDUCED, Limits, export_precision
from switchablecompat.deploy.files.parity import parity_images
from switchablecompat.deploy.packages import optional
from switchablecompat.deploy.profiles.precisions import signed
from switchablecompat.errors import InputError, exit_on_input_error
from switchablecompat.files import refuse_unwritable
from switchablecompat.modeling.opened import OpenedModel, open_model

EXAMPLES = """examples:
  python tools/export_submodel.py --weights outputs/demo/model_final.pth --width 0.25 --kind onnx \\
      --output outputs/export
  python tools/export_submodel.py --weights outputs/demo/model_final.pth --all --images my_images \\
      --output outputs/export
  python tools/export_submodel.py --weights outputs/demo/model_final.pth --width 0.25 --precision int8 \\
      --max-map-drop 0.5 --output outputs/export
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
    parser.add_argument(
        "--precision",
        action="append",
        default=[],
        choices=("float32", *REDUCED),
        help="of ONNX files; may be repeated (default float32)",
    )
    parser.add_argument(
        "--max-map-drop",
        type=float,
        default=MAX_DROP,
        metavar="P",
        help="int8, float16: most points of mAP that a cell may lose (default %(default)g)",
    )
    parser.add_argument(
        "--exclude",
        nargs="+",
        default=[],
        metavar="MODULE",
        help="int8: layers to keep in float32, such as backbone.conv1 (default: as few as the limit needs)",
    )
    parser.add_argument(
        "--calibration-images",
        type=int,
        default=CALIBRATION,
        metavar="N",
        help="int8: training images for the ranges of activations (default %(default)s)",
    )
    parser.add_argument("--dynamic-size", action="store_true", help="ONNX files that take images of any size")
    parser.add_argument("--openvino", action="store_true", help="compare ONNX files in OpenVINO too")
    parser.add_argument("opts", nargs="*", metavar="KEY VALUE", help="config keys to override")
    arguments = parser.parse_intermixed_args(argv)
    if bool(arguments.width) == arguments.all:
        parser.error("either --width or --all must be given")
    if not arguments.tolerance >= 0:  # so that NaN is refused too
        raise InputError("--tolerance", "must not be negative", arguments.tolerance)
    for option, use in (("precision", arguments.precision), ("dynamic-size", arguments.dynamic_size)):
        if use and {*arguments.kind} - {"onnx"}:
            raise InputError(f"--{option}", "is for --kind onnx alone", ", ".join(arguments.kind))
    if not arguments.max_map_drop >= 0:
        raise InputError("--max-map-drop", "must not be negative", arguments.max_map_drop)
    if arguments.calibration_images < 1:
        raise InputError("--calibration-images", "must be at least 1", arguments.calibration_images)
    if arguments.exclude and "int8" not in arguments.precision:
        raise InputError("--exclude", "needs --precision int8")
    return arguments


def main() -> int:
    """Run the command."""
    arguments = parse_arguments()
    onnx_alone = arguments.precision or arguments.dynamic_size or arguments.openvino
    kinds = list(dict.fromkeys(arguments.kind or (["onnx"] if onnx_alone else KINDS)))
    precisions = list(dict.fromkeys(arguments.precision or ["float32"]))
    reduced = [precision for precision in precisions if precision != "float32"]
    for kind in kinds:
        packages(kind)  # what is missing is better said before any work
    if arguments.openvino:
        optional("openvino", "for --openvino", extra="openvino")
    # On the CPU, wherever it was trained: there the bits can be compared.
    model = open_model(arguments.weights, arguments.config_file, [*arguments.opts, "MODEL.DEVICE", "cpu"])
    widths = model.widths if arguments.all else tuple(dict.fromkeys(arguments.width))
    for width in widths:
        model.index_of(width)
        for kind in kinds:
            refuse_unwritable(export_folder(arguments.output, width, kind), "--output")
    try:
        if "float32" in precisions:
            export_float32(model, widths, kinds, arguments)
        if reduced:
            export_reduced(model, widths, reduced, arguments)
    except OSError as error:
        raise InputError("--output", "must be a folder that can be written", error) from error
    return 0


def export_float32(
    model: OpenedModel, widths: Sequence[float], kinds: Sequence[str], arguments: argparse.Namespace
) -> None:
    """Write files whose features are the switchable network's."""
    images, source = parity_images(model.cfg, arguments.images)
    for width in widths:
        for kind in kinds:
            folder, card = export_submodel(
                model,
                width,
                kind,
                arguments.output,
                images,
                source,
                tolerance=arguments.tolerance,
                dynamic_size=arguments.dynamic_size,
                openvino=arguments.openvino and kind == "onnx",
            )
            found = card.extra["parity"]["largest_difference"]
            differences = ", ".join(f"{value:.1e} ({key.replace('_', ' ')})" for key, value in found.items())
            print(f"{folder}/{card.file}: {card.file_bytes:,} bytes, largest difference {differences}", flush=True)


def export_reduced(
    model: OpenedModel, widths: Sequence[float], precisions: Sequence[str], arguments: argparse.Namespace
) -> None:
    """Write files in a lower precision, whose loss has been measured."""
    held_out, calibration = HeldOut(model), calibration_pictures(model, arguments.calibration_images)
    limits = Limits(arguments.max_map_drop, arguments.exclude)
    for width in widths:
        for precision in precisions:
            folder, card = export_precision(
                model,
                width,
                precision,
                arguments.output,
                held_out,
                calibration,
                limits,
                dynamic_size=arguments.dynamic_size,
                openvino=arguments.openvino,
                say=lambda line: print(line, flush=True),
            )
            print(f"{folder}/{card.file}: {card.file_bytes:,} bytes; {describe_proof(card)}", flush=True)


def describe_proof(card: ModelCard) -> str:
    """What a lower precision costs, in a line."""
    proof = card.extra["proof"]
    cells = ", ".join(f"{cell['mAP']:.2f} on {cell['gallery']} ({signed(-cell['drop'])})" for cell in proof["mAP"])
    kept = card.extra.get("float32_layers")
    layers = f"; in float32: {', '.join(kept)}" if kept else ""
    return (
        f"cosine to float32 {proof['cosine']['mean']:.4f} (lowest {proof['cosine']['lowest']:.4f}); mAP {cells}{layers}"
    )


if __name__ == "__main__":
    exit_on_input_error(main)
