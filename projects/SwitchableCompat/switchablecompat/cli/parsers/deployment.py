"""Commands that export sub-models for devices and measure their cost."""

import argparse
from typing import Any

from ...choices import CALIBRATION, FULL, KINDS, MAX_DROP, REDUCED, TOLERANCE
from ...errors import InputError
from .shared import Parser, add_config, add_opts, add_output, add_trained, bad_usage, limit, positive, share
from .unread import fill_in, refuse_token, refuse_unread


def _add_limits(parser: Parser) -> None:
    drop = f"int8, float16: mAP that a cell may lose, in percentage points (default {MAX_DROP:g})"
    parser.add_argument("--max-map-drop", type=limit, metavar="P", help=drop)
    images = f"int8: training images that determine the ranges of activations (default {CALIBRATION})"
    parser.add_argument("--calibration-images", type=positive, metavar="N", help=images)


def _fill_in_limits(arguments: argparse.Namespace) -> None:
    fill_in(arguments, max_map_drop=MAX_DROP, calibration_images=CALIBRATION)


def _add_repeats(parser: Parser) -> None:
    runs = "runs per timing (default %(default)s)"
    parser.add_argument("--repeats", type=positive, default=50, metavar="N", help=runs)


def export(parser: Parser) -> None:
    """Export one or all widths of a switchable model to files that need no switchable network.

    Each file goes to its own folder below --output, such as w025-onnx/, with its card model.json beside it:
      checkpoint  FastReID's checkpoint and config.yaml, for its DefaultPredictor
      onnx        one ONNX file: images [N, 3, H, W] (float32, RGB, 0-255) in, L2-normalised features [N, D] out
      program     a torch.export program with the same inputs and outputs; it needs only PyTorch
    A file is kept only if its features equal the switchable network's on 8 real images, one by one and as one batch.
    --precision int8 or float16 writes ONNX files to folders such as w025-onnx-int8/. They are kept only if their
    queries, on the config's test set, lose at most --max-map-drop in the float32 galleries of every width.

    examples:
      %(prog)s --weights outputs/demo/model_final.pth --all --output outputs/export
      %(prog)s --weights outputs/demo/model_final.pth --width 0.25 --precision int8 --output outputs/export
    """
    add_trained(parser)
    several: dict[str, Any] = {"action": "append", "default": []}
    parser.add_argument("--width", **several, type=float, metavar="X", help="width, such as 0.25; may be repeated")
    parser.add_argument("--all", action="store_true", help="export all widths")
    parser.add_argument("--kind", **several, choices=KINDS, help="kind of file; may be repeated (default: all three)")
    add_output(parser, "parent of the folders")
    parser.add_argument(
        "--images", default="", metavar="DIR", help="images to compare features on (default: the config's test set)"
    )
    accepted = f"onnx, program: largest allowed error of a component of the features (default {TOLERANCE:g})"
    parser.add_argument("--tolerance", type=limit, metavar="T", help=accepted)
    precisions = "precision of ONNX files; may be repeated (default float32)"
    parser.add_argument("--precision", **several, choices=(FULL, *REDUCED), help=precisions)
    _add_limits(parser)
    kept = "int8: layers to keep in float32, such as backbone.conv1 (default: as few as the limit needs)"
    parser.add_argument("--exclude", nargs="+", default=[], metavar="MODULE", help=kept)
    parser.add_argument("--dynamic-size", action="store_true", help="write ONNX files that accept images of any size")
    parser.add_argument("--openvino", action="store_true", help="also check ONNX files in OpenVINO")
    add_opts(parser)
    parser.checks.append(_check_export)


def _check_export(arguments: argparse.Namespace) -> None:
    if bool(arguments.width) == arguments.all:
        raise bad_usage("either --width or --all must be given")
    for option, use in (("precision", arguments.precision), ("dynamic-size", arguments.dynamic_size)):
        if use and {*arguments.kind} - {"onnx"}:
            raise InputError(f"--{option}", "is for --kind onnx alone", ", ".join(arguments.kind))
    if arguments.openvino and arguments.kind and "onnx" not in arguments.kind:
        raise InputError("--openvino", "is for --kind onnx", ", ".join(arguments.kind))
    if "int8" not in arguments.precision:
        refuse_unread(arguments, "needs --precision int8", "exclude", "calibration_images")
    if not {*arguments.precision} & {*REDUCED}:
        refuse_unread(arguments, f"needs --precision {' or '.join(REDUCED)}", "max_map_drop")
    if arguments.precision and FULL not in arguments.precision:
        rule = f"is for --precision {FULL}; other precisions are measured on the config's test set"
        refuse_unread(arguments, rule, "images", "tolerance")
    if {*arguments.kind} == {"checkpoint"}:
        refuse_unread(arguments, "is for --kind onnx and program; a checkpoint's features are equal", "tolerance")
    fill_in(arguments, tolerance=TOLERANCE)
    _fill_in_limits(arguments)


def profile(parser: Parser) -> None:
    """Measure the cost of each width of a switchable model: parameters, operations, file sizes and latency.

    Extracts every width, and times it on this machine's CPU with PyTorch and onnxruntime in turn. Writes profile.json
    and profile.md (tables, with all costs also relative to the full model). Weights are optional: the cost does not
    depend on them.

    examples:
      %(prog)s --config-file configs/Market1501/sfsc_R50.yml --threads 1 --output outputs/profile
      %(prog)s --weights outputs/demo/model_final.pth --batch 1 --batch 32 --repeats 100 --output outputs/profile
    """
    add_config(parser, help="config of a switchable model, profiled with initial weights")
    parser.add_argument("--weights", default="", metavar="W", help="checkpoint; --config-file may then be left out")
    add_output(parser, "folder for profile.json and profile.md")
    batches = "batch size; may be repeated (default 1, 8)"
    parser.add_argument("--batch", action="append", default=[], type=positive, metavar="N", help=batches)
    threads = "threads of PyTorch and of onnxruntime (default %(default)s)"
    parser.add_argument("--threads", type=positive, default=1, metavar="N", help=threads)
    _add_repeats(parser)
    add_opts(parser)
    parser.checks.append(_check_profile)


def _check_profile(arguments: argparse.Namespace) -> None:
    if not arguments.config_file and not arguments.weights:
        raise bad_usage("--config-file or --weights must be given")
    arguments.batch = list(dict.fromkeys(arguments.batch)) or [1, 8]


def profile_precisions(parser: Parser) -> None:
    """Measure int8 and float16 at each width: file size, latency on one thread, and mAP in each cell.

    Latency is measured with onnxruntime, and mAP on the config's test set: the file encodes the queries, and each width
    in float32, or the file itself, encodes the gallery. Writes precisions.json and precisions.md.

    example:
      %(prog)s --weights outputs/demo/model_final.pth --output outputs/demo/precisions
    """
    add_trained(parser)
    add_output(parser, "folder for precisions.json and precisions.md")
    _add_repeats(parser)
    _add_limits(parser)
    add_opts(parser)
    parser.checks.append(_fill_in_limits)


def rehearse(parser: Parser) -> None:
    """Rehearse an upgrade of a gallery in Milvus end to end, with exported files and one threshold.

    Cameras run a small sub-model (int8 by default). A middle sub-model encodes the gallery, then a large one re-encodes
    it in tenths while queries continue. After each tenth the command prints mAP, and TAR at the family's threshold. It
    writes rehearsal.json and rehearsal.png. The data set is the first test set of the config.

    example:
      %(prog)s --weights outputs/demo/model_final.pth --camera 0.25 --old 0.5 --new 1.0 --output outputs/demo/rehearsal
    """
    add_trained(parser)
    for option, width, place in (
        ("--camera", 0.25, "width on cameras"),
        ("--old", 0.5, "width of the gallery before the upgrade"),
        ("--new", 1.0, "width of the gallery after it"),
    ):
        parser.add_argument(option, type=float, default=width, metavar="X", help=f"{place} (default %(default)s)")
    there = "precision of the file on cameras (default %(default)s)"
    parser.add_argument("--precision", choices=(FULL, *REDUCED), default="int8", help=there)
    parser.add_argument(
        "--far", type=share, default=1e-2, metavar="P", help="FAR that sets the threshold (default %(default)s)"
    )
    number = "evenly spaced queries; each ranks the whole gallery after each tenth (default %(default)s)"
    parser.add_argument("--queries", type=positive, default=100, metavar="N", help=number)
    parser.add_argument("--max-map-drop", type=limit, metavar="P", help="int8, float16: as for export")
    parser.add_argument("--uri", metavar="URI", help="Milvus server (default: gallery.db in --output, embedded)")
    parser.add_argument("--token", metavar="TEXT", help="user:password, if the server requires it")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the order (default %(default)s)")
    add_output(parser, "folder for files, database, JSON and plot")
    add_opts(parser)
    parser.checks.append(_check_rehearsal)


def _check_rehearsal(arguments: argparse.Namespace) -> None:
    if arguments.old == arguments.new:
        raise InputError("--new", "must be another width than --old", arguments.new)
    if arguments.precision == FULL:
        refuse_unread(arguments, f"is for --precision {' or '.join(REDUCED)}", "max_map_drop")
    refuse_token(arguments)
    fill_in(arguments, max_map_drop=MAX_DROP, token="")
