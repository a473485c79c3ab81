"""Export one sub-model to ONNX in int8 or float16. The file gets its name only after its mAP has been measured."""

import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor
from tqdm import tqdm

from ...choices import MAX_DROP
from ...errors import InputError
from ...files import atomic_folder
from ...modeling.opened import CARD_KEY, OpenedModel
from ..card import ModelCard
from ..images import input_size
from ..packages import optional
from .export import complete, describe, export_folder
from .float16 import write_half
from .graph import standalone
from .held_out import HeldOut, largest_drop
from .int8 import Layer, Quantiser
from .opening import CARD_NAME, open_encoder, openvino_encoder
from .parity import other_sizes
from .writers import write_onnx

RANKED = 32  # calibration images that rank the layers by their error


@dataclass(frozen=True)
class Limits:
    """The mAP that any cell may lose, in percentage points, and the modules to keep in float32 from the start."""

    max_drop: float = MAX_DROP
    exclude: Sequence[str] = ()


def export_precision(
    model: OpenedModel,
    width: float,
    precision: str,
    output: str | Path,
    held_out: HeldOut,
    calibration: tuple[Tensor, str],
    limits: Limits,
    *,
    source: Path | None = None,
    dynamic_size: bool = False,
    openvino: bool = False,
) -> tuple[Path, ModelCard]:
    """Write one sub-model in a lower precision and its card to ``output/w025-onnx-int8/``.

    If int8 loses more than the limit, the layers whose quantisation alone does most harm stay in float32: 1, 2, 4... of
    them, up to half.

    Args:
        model, width: the opened run, on the CPU, and the width of the sub-model.
        precision: ``int8`` or ``float16``.
        output: parent folder.
        held_out, limits: the test set that measures the loss of mAP, and the accepted loss.
        calibration: training images ``[n, 3, H, W]`` that determine the ranges of activations, and their source.
        source: the float32 ONNX file to start from, by :func:`~.writers.write_onnx`. Default: make one.
        dynamic_size: leave height and width open; the loss must keep the limit at two other image sizes too.
        openvino: also measure the file in OpenVINO, where its loss must keep the limit too.

    Returns:
        The folder and the card, whose ``extra["proof"]`` is that of :meth:`~.held_out.HeldOut.compare`. Those in
        OpenVINO and at other sizes (by ``192x96``) are ``proof_openvino`` and ``proof_sizes``.

    Raises:
        InputError: unknown width or layer, missing package, or a loss above the limit. No file is written then.
    """
    folder = export_folder(output, width, "onnx", precision)
    network = standalone(model, width)
    card = describe(model, network, width, "onnx", precision=precision, dynamic_size=dynamic_size)
    with tempfile.TemporaryDirectory() as temporary, atomic_folder(folder, last=CARD_NAME) as staging:
        if source is None:
            source = Path(temporary) / "float32.onnx"
            write_onnx(network, source, card)
        path = staging / card.file
        card.write(staging / CARD_NAME)
        own: dict[str, Any] = {}
        if precision == "float16":
            write_half(source, path)
            put_card(path, card)
            proof = held_out.compare(open_encoder(staging))
        else:
            quantiser = Quantiser(source, calibration[0])
            proof, kept = _within(quantiser, path, card, held_out, limits, calibration[0])
            own = {
                "calibration": {"images": len(calibration[0]), "source": calibration[1]},
                "float32_layers": [layer.name for layer in kept],
                "int8_layers": len(quantiser.layers) - len(kept),
            }
        drops = {"": largest_drop(proof["mAP"])}
        if openvino:
            own["proof_openvino"] = held_out.compare(openvino_encoder(path))
            drops[" in OpenVINO"] = largest_drop(own["proof_openvino"]["mAP"])
        if dynamic_size:
            sizes = other_sizes(input_size(card.preprocessing))
            found = {f"{size[0]}x{size[1]}": held_out.compare(open_encoder(path), size) for size in sizes}
            own["proof_sizes"] = found
            drops |= {f" at {size}": largest_drop(one["mAP"]) for size, one in found.items()}
        if wrong := [f"{drop:.2f}{where}" for where, drop in drops.items() if not drop <= limits.max_drop]:  # or NaN
            rule = f"must lose at most {limits.max_drop:g} points of mAP in every cell (--max-map-drop); not written"
            if precision == "int8":
                wrong.append(f"with {len(kept)} of {len(quantiser.layers)} layers in float32")
            raise InputError(folder.name, rule, ", ".join(wrong))
        card = complete(card, staging, **own, proof={**proof, "max_map_drop": limits.max_drop})
    return folder, card


def _within(
    quantiser: Quantiser, path: Path, card: ModelCard, held_out: HeldOut, limits: Limits, pictures: Tensor
) -> tuple[dict[str, Any], list[Layer]]:
    """Quantise with as few layers in float32 as the limit needs; return the last measurement and these layers."""
    fixed = quantiser.named(limits.exclude)
    worst: list[Layer] | None = None
    number = 0
    while True:
        kept = list(dict.fromkeys([*fixed, *(worst or [])[:number]]))
        quantiser.write(path, kept)
        put_card(path, card)
        proof = held_out.compare(open_encoder(path))
        drop = largest_drop(proof["mAP"])
        number = max(1, 2 * number)
        if drop <= limits.max_drop or number > len(quantiser.layers) // 2:
            return proof, kept
        tqdm.write(f"{card.name} int8 loses {drop:.2f} points of mAP: {number} more of its layers stay in float32")
        if worst is None:
            worst = _by_error(quantiser, path, card, pictures[:RANKED])


def _by_error(quantiser: Quantiser, path: Path, card: ModelCard, pictures: Tensor) -> list[Layer]:
    """The layers in descending order of the error in the features when only that layer is quantised."""

    def features(exclude: Sequence[Layer]) -> Tensor:
        quantiser.write(path, exclude)
        put_card(path, card)
        return open_encoder(path)(pictures)

    exact = features(quantiser.layers)
    errors = {
        layer: (1 - (features([other for other in quantiser.layers if other != layer]) * exact).sum(1)).mean().item()
        for layer in quantiser.layers
    }
    return sorted(quantiser.layers, key=lambda layer: -errors[layer])


def put_card(path: Path, card: ModelCard) -> None:
    """Write the card into an ONNX file's metadata, which onnxruntime's quantiser does not keep."""
    onnx = optional("onnx", f"for --precision {card.precision}")
    model = onnx.load(path)
    metadata = {"family": card.family, "width": str(card.width), "dimension": str(card.dimension)}
    metadata |= {"metric": card.metric, "precision": card.precision, CARD_KEY: json.dumps(card.to_dict())}
    onnx.helper.set_model_props(model, metadata)
    onnx.save(model, path)
