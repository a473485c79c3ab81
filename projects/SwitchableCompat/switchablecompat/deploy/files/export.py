"""Export one sub-model to a file, which gets its name only after a comparison with the switchable network."""

import dataclasses
from functools import partial
from pathlib import Path
from typing import Any

import torch
from fastreid.modeling.meta_arch.baseline import Baseline
from torch import Tensor

from ...choices import TOLERANCE
from ...errors import InputError
from ...files import atomic_folder
from ...modeling.opened import OpenedModel
from ...provenance import hardware, versions
from ...widths import width_name
from ..card import ModelCard
from ..encoder import raw_features, submodel_encoder
from ..images import input_size
from ..packages import optional
from .graph import PixelsToFeatures, count_macs, standalone
from .opening import CARD_NAME, open_encoder, openvino_encoder
from .parity import differences_of_sizes, largest_differences
from .writers import write_checkpoint, write_onnx, write_program

FILES = {"checkpoint": "model.pth", "onnx": "model.onnx", "program": "model.pt2"}
# Runtimes fold batch norms into convolutions and sum in another order. In float32 this changes features by 2e-7 in a
# small trained network, and by 2e-5 to 4e-5 in an untrained ResNet-50. There, PyTorch's own float32 features are 2e-5
# from those in double precision, so no tolerance for all networks can be smaller.


def export_submodel(
    model: OpenedModel,
    width: float,
    kind: str,
    output: str | Path,
    images: Tensor,
    source: str,
    *,
    tolerance: float = TOLERANCE,
    dynamic_size: bool = False,
    openvino: bool = False,
) -> tuple[Path, ModelCard]:
    """Write one sub-model and its card to ``output/w025-KIND/``, after comparing its features.

    The file is read back as users read it, and its features are compared with the switchable network's. A checkpoint's
    features must be equal bit by bit.

    Args:
        model, width: The opened run, on the CPU, and the width of the sub-model.
        kind: ``checkpoint``, ``onnx`` or ``program``.
        output: Parent folder.
        images, source: [8, 3, H, W] real images to compare on, and where they come from.
        tolerance: Largest accepted difference in any component of the L2-normalised features.
        dynamic_size: For ``onnx``: leave height and width open, and compare at three sizes.
        openvino: For ``onnx``: also compare in OpenVINO.

    Returns:
        The folder and the card, whose ``extra["parity"]`` has the differences.

    Raises:
        InputError: Unknown width, missing package, or features that differ. No file is written then.
    """
    folder = export_folder(output, width, kind)
    network = standalone(model, width)
    card = describe(model, network, width, kind, dynamic_size=dynamic_size)
    with atomic_folder(folder, last=CARD_NAME) as staging:
        path = staging / card.file
        card.write(staging / CARD_NAME)
        if kind == "checkpoint":
            write_checkpoint(network, path, card, model.cfg, folder / card.file)
        else:
            {"onnx": write_onnx, "program": write_program}[kind](network, path, card)
        allowed = 0.0 if kind == "checkpoint" else tolerance
        reference = submodel_encoder(model, width)
        found = largest_differences(open_encoder(staging), reference, images)
        if dynamic_size:
            found |= differences_of_sizes(open_encoder(staging), partial(raw_features, model, width), images)
        if openvino:
            there = largest_differences(openvino_encoder(path), reference, images)
            found |= {f"openvino_{key}": value for key, value in there.items()}
        if not all(value <= allowed for value in found.values()):  # rejects NaN too
            rule = f"features must differ from the switchable network's by at most {allowed:g}; nothing is written"
            raise InputError(folder.name, rule, ", ".join(f"{value:.3g} ({key})" for key, value in found.items()))
        parity = {"largest_difference": found, "tolerance": allowed, "images": len(images), "source": source}
        card = complete(card, staging, parity=parity)
    return folder, card


def describe(model: OpenedModel, network: Baseline, width: float, kind: str, **own: Any) -> ModelCard:
    """The card of a file before it is written, with its parameters, operations, versions and machine.

    ``network`` is the extracted sub-model; ``own`` are further fields.
    """
    card = ModelCard.of_model(
        model,
        width,
        kind=kind,
        l2_normalised=kind != "checkpoint",
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        extra={"versions": {**versions(), **packages(kind)}, "hardware": hardware()},
        **{"file": FILES[kind], **own},
    )
    blank = torch.zeros(1, 3, *input_size(card.preprocessing))
    return dataclasses.replace(card, macs=count_macs(PixelsToFeatures(network), blank))


def complete(card: ModelCard, folder: Path, **extra: Any) -> ModelCard:
    """Add the file's size and the measurements ``extra`` to a card, write it to the folder, and return it."""
    size = (folder / card.file).stat().st_size
    card = dataclasses.replace(card, file_bytes=size, extra={**card.extra, **extra})
    card.write(folder / CARD_NAME)
    return card


def export_folder(output: str | Path, width: float, kind: str, precision: str = "float32") -> Path:
    """The folder of one sub-model's files, such as ``w025-onnx`` or ``w025-onnx-int8``, below ``output``."""
    return Path(output) / "-".join([width_name(width), kind, *([] if precision == "float32" else [precision])])


def packages(kind: str) -> dict[str, str]:
    """The optional packages that a kind of file needs, with their versions; a missing one raises InputError."""
    names = ("onnx", "onnxscript", "onnxruntime") if kind == "onnx" else ()
    return {name: optional(name, f"for --kind {kind}").__version__ for name in names}
