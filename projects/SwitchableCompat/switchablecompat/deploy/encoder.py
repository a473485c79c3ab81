"""Features from whatever holds a sub-model: a trained run, or any file exported from one."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
import torch.nn.functional as F
from fastreid.engine import DefaultPredictor
from torch import Tensor

from ..choices import FULL
from ..config import merge_config
from ..errors import InputError
from ..evaluation.precision import computing_in
from ..modeling.checkpoint import RECORD_KEY, load_for_evaluation, read_checkpoint
from ..modeling.trained import CONFIG_NAME, check_features
from .card import ModelCard
from .images import input_size
from .run import TrainedRun

CARD_NAME = "model.json"
CARD_KEY = "model_card"  # in the file itself: ONNX metadata, extra file of a program, record of a checkpoint
ADDED_LATER = ("file_bytes", "extra")  # to the card beside a file, when the file exists and was compared


class Encoder:
    """One sub-model: images to L2-normalised features.

    Args:
        card: What it is.
        forward: From images [N, 3, H, W] to features [N, D], normalised if the card says so.
    """

    def __init__(self, card: ModelCard, forward: Callable[[Tensor], Tensor]) -> None:
        self.card = card
        self._forward = forward

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """Features of a batch.

        Args:
            images: [N, 3, H, W] float32, RGB, 0-255, of the card's size (of any, if it says so); not changed.

        Returns:
            [N, D] float32 on the CPU, of length one.

        Raises:
            InputError: Another shape or type, or features that are not finite.
        """
        size: tuple[object, ...] = (3, *input_size(self.card.preprocessing))
        fits = images.dim() == 4 and images.shape[1:] == size
        if self.card.dynamic_size:
            fits, size = images.dim() == 4 and images.shape[1] == 3, (3, "H", "W")
        if not fits or images.dtype != torch.float32:
            found = f"{images.dtype} {list(images.shape)}"
            raise InputError("images", f"must be float32 [N, {', '.join(map(str, size))}]", found)
        features = self._forward(images).float().cpu()
        if not features.isfinite().all():  # weights that are not, or overflow in half precision
            raise InputError(self.card.file, "must give finite features", f"NaN or infinity at {self.card.name}")
        return features if self.card.l2_normalised else F.normalize(features)


def run_encoder(run: TrainedRun, width: float) -> Encoder:
    """One sub-model of an opened run, without a file of its own.

    Raises:
        InputError: The run has no such width.
    """
    return Encoder(run.card(width, precision=run.cfg.TEST.PRECISION), lambda images: run.features(images, width))


def load_encoder(path: str | Path, precision: str = FULL) -> Encoder:
    """Load an exported sub-model.

    Args:
        path: The exported folder, its model file, or its card ``model.json``.
        precision: What a checkpoint computes in; other files compute in what they were exported in.

    Raises:
        InputError: None of these, a card that is another file's, or a package that is missing.
    """
    path = Path(path)
    if path.is_dir():
        path = path / CARD_NAME
    if path.name == CARD_NAME:
        path = path.parent / ModelCard.read(path).file
    if not path.is_file():
        raise InputError(path, "must be an existing exported model")
    loaders = {".onnx": _load_onnx, ".pt2": _load_program, ".pth": _load_checkpoint}
    if path.suffix not in loaders:
        raise InputError(path, f"must end in {', '.join(loaders)}")
    if path.suffix == ".pth":
        return _load_checkpoint(path, precision)
    if precision != FULL:
        raise InputError("--precision", f"must be {FULL} for {path.suffix} files, which compute as exported", precision)
    return loaders[path.suffix](path)


def optional(package: str, use: str, extra: str = "deploy") -> ModuleType:
    """Import a package that only deployment needs.

    Raises:
        InputError: It is not installed; says how to get it.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise InputError(package, f"is needed {use}: pip install '.[{extra}]'", error) from None


def _load_onnx(path: Path) -> Encoder:
    runtime = optional("onnxruntime", "to run an ONNX file")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    # threads that spin between calls take the cores from whatever runs beside, such as a second sub-model
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


def _load_program(path: Path) -> Encoder:
    """A program is code: torch unpickles what is in it, so that a hostile file can do anything."""
    inside = {CARD_KEY: ""}
    log = logging.getLogger("torch.export")  # shows a traceback beside what it raises
    log.disabled = True
    try:
        program = torch.export.load(path, extra_files=inside).module()
    except Exception as error:  # whatever a damaged archive raises
        raise InputError(path, "must be a whole program of torch.export", str(error).split("\n")[0]) from None
    finally:
        log.disabled = False
    return Encoder(_card(path, inside[CARD_KEY]), program)


def _load_checkpoint(path: Path, precision: str = FULL) -> Encoder:
    content = read_checkpoint(str(path))
    record = content.get(RECORD_KEY, {})
    card = _card(path, record.get(CARD_KEY))
    config = path.with_name(CONFIG_NAME)
    cfg = merge_config(str(config), ["MODEL.WEIGHTS", str(path)], CONFIG_NAME)
    check_features(str(path), record, cfg, str(config))
    predictor = DefaultPredictor(cfg)
    load_for_evaluation(predictor.model, str(path), CONFIG_NAME, content)  # which FastReID does with whatever fits

    def forward(images: Tensor) -> Tensor:
        with computing_in(precision, predictor.cfg.MODEL.DEVICE):
            return predictor(images.clone())  # it normalises them in place

    return Encoder(replace(card, precision=precision), forward)


def _card(path: Path, inside: str | None) -> ModelCard:
    """The card beside a file, if there is one of this name, which must agree with the one inside it; else that one."""
    if not inside:
        raise InputError(path, "must be exported by tools/export_submodel.py", "no model card in it")
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
