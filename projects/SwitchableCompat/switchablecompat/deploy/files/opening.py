"""Open exported files as encoders: ONNX in onnxruntime or OpenVINO, programs of torch.export, checkpoints."""

import logging
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...errors import InputError
from ...evaluation.precision import FULL, computing_in
from ...modeling.opened import CARD_KEY, open_model
from ...modeling.trained import CONFIG_NAME
from ..card import ModelCard
from ..encoder import Encoder, submodel_encoder
from ..packages import optional

CARD_NAME = "model.json"
ADDED_LATER = ("file_bytes", "extra")  # fields that only the card beside a file has: they are known after the export


def open_encoder(
    path: str | Path, width: float | None = None, *, config_file: str = "", device: str = "cpu", precision: str = FULL
) -> Encoder:
    """Open one sub-model: an exported file, or a part of a training run's checkpoint.

    Args:
        path: The exported folder, its model file, or its card ``model.json``; with ``width``, a run's checkpoint.
        width: Width of the sub-model of a run.
        config_file: A run's config. Empty: the config in the checkpoint, or ``config.yaml`` beside it.
        device: Device of a run. Exported files compute on the CPU.
        precision: Precision of a run or an exported checkpoint. Other files compute in their own precision.

    Raises:
        InputError: Not such a file, a card of another file, an unknown width, or a missing package.
    """
    if width is not None:
        options = ["MODEL.DEVICE", device, "TEST.PRECISION", precision]
        return submodel_encoder(open_model(str(path), config_file, options), width)
    path = Path(path)
    if path.is_dir():
        path = path / CARD_NAME
    if path.name == CARD_NAME:
        path = path.parent / ModelCard.read(path).file
    if not path.is_file():
        raise InputError(path, "must be an existing exported model")
    if path.suffix == ".pth":
        return _open_checkpoint(path, precision)
    openers = {".onnx": _open_onnx, ".pt2": _open_program}
    if path.suffix not in openers:
        raise InputError(path, f"must end in {', '.join(openers)}, .pth")
    if precision != FULL:
        raise InputError("--precision", f"must be {FULL} for {path.suffix} files, which compute as exported", precision)
    return openers[path.suffix](path)


def openvino_encoder(path: Path) -> Encoder:
    """Open an exported ONNX file in OpenVINO, on the CPU in the file's own precision."""
    openvino: Any = optional("openvino", "for --openvino", extra="openvino")
    core = openvino.Core()
    try:
        # Without this hint OpenVINO may choose bfloat16 on processors that support it.
        model = core.compile_model(core.read_model(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    except RuntimeError as error:
        raise InputError(path, "must be an ONNX file that OpenVINO takes", str(error).strip().split("\n")[-1]) from None

    def forward(images: Tensor) -> Tensor:
        return torch.from_numpy(model(images.cpu().numpy())["features"].copy())

    return Encoder(open_encoder(path).card, forward)


def _open_onnx(path: Path) -> Encoder:
    runtime = optional("onnxruntime", "to run an ONNX file")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    # Threads that spin between calls keep cores from other work, such as a second sub-model.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own exceptions have no common public base
        raise InputError(path, "must be a whole ONNX file", str(error).split("\n")[0]) from None
    card = _card(path, session.get_modelmeta().custom_metadata_map.get(CARD_KEY))

    def forward(images: Tensor) -> Tensor:
        (features,) = session.run(["features"], {"images": np.ascontiguousarray(images.cpu().numpy())})
        return torch.from_numpy(features)

    return Encoder(card, forward)


def _open_program(path: Path) -> Encoder:
    """Open a program of torch.export. Caution: torch unpickles it, so a hostile file can run any code."""
    inside = {CARD_KEY: ""}
    log = logging.getLogger("torch.export")  # it prints a traceback in addition to the exception
    log.disabled = True
    try:
        program = torch.export.load(path, extra_files=inside).module()
    except Exception as error:  # a damaged archive raises exceptions of many types
        raise InputError(path, "must be a whole program of torch.export", str(error).split("\n")[0]) from None
    finally:
        log.disabled = False
    return Encoder(_card(path, inside[CARD_KEY]), program)


def _open_checkpoint(path: Path, precision: str) -> Encoder:
    model = open_model(str(path), opts=["TEST.PRECISION", precision], file_key=CONFIG_NAME)
    card = _card(path, model.record.get(CARD_KEY))

    def forward(images: Tensor) -> Tensor:
        with computing_in(precision, model.cfg.MODEL.DEVICE):
            return model.network(images.clone())  # the network normalises them in place

    return Encoder(replace(card, precision=precision), forward)


def _card(path: Path, inside: str | None) -> ModelCard:
    """The card beside a file, which must agree with the card inside it; without one, the card inside."""
    if not inside:
        raise InputError(path, "must be written by the command export", "no model card in it")
    own = ModelCard.from_json(inside, str(path))
    beside = path.with_name(CARD_NAME)
    if not beside.exists():
        return own
    card = ModelCard.read(beside)
    if card.file != path.name:
        return own
    for key in (field.name for field in fields(ModelCard) if field.name not in ADDED_LATER):
        ours, found = getattr(own, key), getattr(card, key)
        if ours != found:
            raise InputError(beside, f"must be the card of {path.name}, whose {key} is {ours}", found)
    return card
