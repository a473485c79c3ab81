"""One sub-model of a trained run as a file of its own, which gets its name when it has been compared with the run."""

from __future__ import annotations

import dataclasses
from functools import partial
from pathlib import Path

from torch import Tensor

from ..choices import TOLERANCE
from ..errors import InputError
from ..files import atomic_folder
from ..provenance import hardware, versions
from ..widths import width_name
from .card import ModelCard
from .encoder import CARD_NAME, load_encoder, optional, run_encoder
from .extractor import FeatureExtractor, count_macs
from .openvino import openvino_encoder
from .parity import differences_of_sizes, largest_differences
from .run import TrainedRun
from .writers import write_checkpoint, write_onnx, write_program

FILES = {"checkpoint": "model.pth", "onnx": "model.onnx", "program": "model.pt2"}
PACKAGES = {"onnx": ("onnx", "onnxscript", "onnxruntime")}
# Runtimes fold batch norms into convolutions and sum in another order. In float32 that shows as 2e-7 in a small trained
# network and as 2e-5 to 4e-5 in an untrained ResNet-50, where PyTorch's own float32 features are 2e-5 from double
# precision: no less can be asked of any network.


def export_submodel(
    run: TrainedRun,
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

    The file is read back as users read it, and its features are compared with the switchable network's. A checkpoint
    must give the same bits.

    Args:
        run: The trained run, on the CPU.
        width: Which sub-model.
        kind: ``checkpoint``, ``onnx`` or ``program``.
        output: Parent folder.
        images: [8, 3, H, W] real images to compare on.
        source: Where they come from.
        tolerance: Largest difference of a component of the L2-normalised features that is accepted.
        dynamic_size: For ``onnx``: leave height and width open, and compare at three sizes.
        openvino: For ``onnx``: compare in OpenVINO too.

    Returns:
        The folder and the card, whose ``extra["parity"]`` has the differences.

    Raises:
        InputError: Unknown width, a package that is missing, or features that differ; then there is no file.
        OSError: The folder cannot be written.
    """
    folder = export_folder(output, width, kind)
    model = run.submodel(width)
    extractor = FeatureExtractor(model)
    card = run.card(
        width,
        kind=kind,
        file=FILES[kind],
        l2_normalised=kind != "checkpoint",
        dynamic_size=dynamic_size,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        macs=count_macs(extractor, images[:1]),
        extra={"versions": {**versions(), **packages(kind)}, "hardware": hardware()},
    )
    with atomic_folder(folder, last=CARD_NAME) as staging:
        path = staging / card.file
        card.write(staging / CARD_NAME)
        if kind == "checkpoint":
            write_checkpoint(model, path, card, run.cfg, folder / card.file)
        else:
            {"onnx": write_onnx, "program": write_program}[kind](model, path, card)
        allowed = 0.0 if kind == "checkpoint" else tolerance
        reference = run_encoder(run, width)
        found = largest_differences(load_encoder(staging), reference, images)
        if dynamic_size:
            found |= differences_of_sizes(load_encoder(staging), partial(run.features, width=width), images)
        if openvino:
            there = largest_differences(openvino_encoder(path), reference, images)
            found |= {f"openvino_{key}": value for key, value in there.items()}
        if not all(value <= allowed for value in found.values()):  # so that NaN is refused too
            rule = f"features must differ from the switchable network's by at most {allowed:g}; nothing is written"
            raise InputError(folder.name, rule, ", ".join(f"{value:.3g} ({key})" for key, value in found.items()))
        parity = {"largest_difference": found, "tolerance": allowed, "images": len(images), "source": source}
        card = dataclasses.replace(card, file_bytes=path.stat().st_size, extra={**card.extra, "parity": parity})
        card.write(staging / CARD_NAME)
    return folder, card


def export_folder(output: str | Path, width: float, kind: str) -> Path:
    """The folder of one sub-model's files of one kind, such as ``w025-onnx``, below ``output``."""
    return Path(output) / f"{width_name(width)}-{kind}"


def packages(kind: str) -> dict[str, str]:
    """The optional packages that a kind of file needs, with their versions.

    Raises:
        InputError: The first that is missing, and how to get it.
    """
    return {name: optional(name, f"for --kind {kind}").__version__ for name in PACKAGES.get(kind, ())}
