"""Export sub-models to files that need no switchable network."""

import argparse

from ..choices import FULL, KINDS
from ..deploy.card import ModelCard
from ..deploy.files.export import export_folder, export_submodel, packages
from ..deploy.files.held_out import HeldOut, calibration_pictures
from ..deploy.files.low_precision import Limits, export_precision
from ..deploy.files.parity import parity_images
from ..deploy.packages import optional
from ..deploy.profiles.precisions import signed
from ..files import refuse_unwritable
from .encoders import open_to_export


def main(arguments: argparse.Namespace) -> None:
    onnx_alone = arguments.precision or arguments.dynamic_size or arguments.openvino
    kinds = list(dict.fromkeys(arguments.kind or (["onnx"] if onnx_alone else KINDS)))
    precisions = list(dict.fromkeys(arguments.precision or [FULL]))
    for kind in kinds:
        packages(kind)  # report a missing package before any work
    if arguments.openvino:
        optional("openvino", "for --openvino", extra="openvino")
    model = open_to_export(arguments)
    widths = model.widths if arguments.all else tuple(dict.fromkeys(arguments.width))
    files = [(width, kind, FULL) for width in widths for kind in kinds if FULL in precisions]
    files += [(width, "onnx", precision) for width in widths for precision in precisions if precision != FULL]
    for width, kind, precision in files:
        model.index_of(width)
        refuse_unwritable(export_folder(arguments.output, width, kind, precision), "--output")
    if FULL in precisions:
        images = parity_images(model.cfg, arguments.images)
    if precisions != [FULL]:
        proof = (
            HeldOut(model),
            calibration_pictures(model, arguments.calibration_images),
            Limits(arguments.max_map_drop, arguments.exclude),
        )
    for width, kind, precision in files:
        options = {"dynamic_size": arguments.dynamic_size, "openvino": arguments.openvino and kind == "onnx"}
        if precision == FULL:
            place = (model, width, kind, arguments.output)
            folder, card = export_submodel(*place, *images, tolerance=arguments.tolerance, **options)
            found = card.extra["parity"]["largest_difference"]
            differences = ", ".join(f"{value:.1e} ({key.replace('_', ' ')})" for key, value in found.items())
            words = f", largest difference {differences}"
        else:
            folder, card = export_precision(model, width, precision, arguments.output, *proof, **options)
            words = f"; {describe_proof(card)}"
        print(f"{folder}/{card.file}: {card.file_bytes:,} bytes{words}", flush=True)


def describe_proof(card: ModelCard) -> str:
    """One line with the measured cost of a lower precision."""
    proof = card.extra["proof"]
    cells = ", ".join(f"{cell['mAP']:.2f} on {cell['gallery']} ({signed(-cell['drop'])})" for cell in proof["mAP"])
    kept = card.extra.get("float32_layers")
    layers = f"; in float32: {', '.join(kept)}" if kept else ""
    return (
        f"cosine to float32 {proof['cosine']['mean']:.4f} (lowest {proof['cosine']['lowest']:.4f}); mAP {cells}{layers}"
    )
