"""Export sub-models to files that need no switchable network."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from ..choices import KINDS
from ..deploy.card import ModelCard
from ..deploy.files.export import export_folder, export_submodel, packages
from ..deploy.files.held_out import HeldOut, calibration_pictures
from ..deploy.files.low_precision import Limits, export_precision
from ..deploy.files.parity import parity_images
from ..deploy.packages import optional
from ..deploy.profiles.precisions import signed
from ..files import refuse_unwritable
from ..modeling.opened import OpenedModel, open_model


def main(arguments: argparse.Namespace) -> int:
    onnx_alone = arguments.precision or arguments.dynamic_size or arguments.openvino
    kinds = list(dict.fromkeys(arguments.kind or (["onnx"] if onnx_alone else KINDS)))
    precisions = list(dict.fromkeys(arguments.precision or ["float32"]))
    reduced = [precision for precision in precisions if precision != "float32"]
    for kind in kinds:
        packages(kind)  # report a missing package before any work
    if arguments.openvino:
        optional("openvino", "for --openvino", extra="openvino")
    # Always on the CPU, where features can be compared bit by bit.
    model = open_model(arguments.weights, arguments.config_file, [*arguments.opts, "MODEL.DEVICE", "cpu"])
    widths = model.widths if arguments.all else tuple(dict.fromkeys(arguments.width))
    for width in widths:
        model.index_of(width)
        folders = [(kind, "float32") for kind in kinds if "float32" in precisions]
        for one in [*folders, *(("onnx", precision) for precision in reduced)]:
            refuse_unwritable(export_folder(arguments.output, width, *one), "--output")
    if "float32" in precisions:
        export_float32(model, widths, kinds, arguments)
    if reduced:
        export_reduced(model, widths, reduced, arguments)
    return 0


def export_float32(
    model: OpenedModel, widths: Sequence[float], kinds: Sequence[str], arguments: argparse.Namespace
) -> None:
    """Write files whose features equal the switchable network's."""
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
    """Write files in lower precisions, and measure how much mAP they lose."""
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
            )
            print(f"{folder}/{card.file}: {card.file_bytes:,} bytes; {describe_proof(card)}", flush=True)


def describe_proof(card: ModelCard) -> str:
    """One line with the measured cost of a lower precision."""
    proof = card.extra["proof"]
    cells = ", ".join(f"{cell['mAP']:.2f} on {cell['gallery']} ({signed(-cell['drop'])})" for cell in proof["mAP"])
    kept = card.extra.get("float32_layers")
    layers = f"; in float32: {', '.join(kept)}" if kept else ""
    return (
        f"cosine to float32 {proof['cosine']['mean']:.4f} (lowest {proof['cosine']['lowest']:.4f}); mAP {cells}{layers}"
    )
