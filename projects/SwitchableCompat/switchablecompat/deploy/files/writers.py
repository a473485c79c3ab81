"""The three kinds of files that hold one sub-model, and the FastReID config of an exported checkpoint."""

from __future__ import annotations

import io
import json
from pathlib import Path

import torch
from fastreid.config import CfgNode, get_cfg
from fastreid.modeling.meta_arch.baseline import Baseline

from ...config import add_switchablecompat_config
from ...errors import InputError
from ...modeling.checkpoint import RECORD_KEY
from ...modeling.opened import CARD_KEY
from ...modeling.trained import CONFIG_NAME
from ...settings import feature_settings
from ..card import ModelCard
from ..images import input_size
from ..packages import optional
from .graph import PixelsToFeatures

BATCH = "batch"
SIDES = ("height", "width")
# What a model is, what it gets, and how it is tested; how it was trained is no matter of an exported model.
KEPT = ("MODEL", "INPUT", "DATASETS", "TEST")


def write_checkpoint(model: Baseline, path: Path, card: ModelCard, cfg: CfgNode, final: Path) -> None:
    """FastReID's checkpoint, with the card below this plug-in's key, and ``config.yaml`` beside it.

    ``cfg`` is the run's config; ``final`` is where the file is going to lie, for ``MODEL.WEIGHTS``.
    """
    config = plain_config(cfg, card.width, str(final))
    record = {CARD_KEY: json.dumps(card.to_dict()), "features": feature_settings(config)}
    torch.save({"model": model.state_dict(), RECORD_KEY: record}, path)
    path.with_name(CONFIG_NAME).write_text(config.dump(), encoding="utf-8")


def write_program(model: Baseline, path: Path, card: ModelCard) -> None:
    """A program of ``torch.export``: input ``images``, any batch size, card among its extra files."""
    program = _trace(model, card)
    program.example_inputs = None
    content = io.BytesIO()  # a writer that meets a full disk ends the process when it is collected
    torch.export.save(program, content, extra_files={CARD_KEY: json.dumps(card.to_dict())})
    path.write_bytes(content.getbuffer())


def write_onnx(model: Baseline, path: Path, card: ModelCard) -> None:
    """One ONNX file: input ``images``, output ``features``, any batch size, card and its main fields as metadata.

    Height and width are open too if the card says ``dynamic_size``.

    Raises:
        InputError: A package is missing, or the network is bound to its size.
    """
    checker = optional("onnx.checker", "to write an ONNX file")
    optional("onnxscript", "to write an ONNX file")
    sides = SIDES if card.dynamic_size else ()
    exported = torch.onnx.export(
        _trace(model, card),
        dynamo=True,
        verbose=False,
        input_names=["images"],
        output_names=["features"],
        dynamic_shapes={"images": dict(enumerate((BATCH, None, *sides))) if sides else {0: BATCH}},
    )
    assert exported is not None  # with dynamo
    content = exported.model
    content.graph.metadata_props.clear()
    for node in content.graph:  # where in which file of this machine each operation comes from
        node.metadata_props.clear()
    content.metadata_props.update(
        family=card.family, width=str(card.width), dimension=str(card.dimension), metric=card.metric
    )
    content.metadata_props[CARD_KEY] = json.dumps(card.to_dict())
    exported.save(path, external_data=False)
    checker.check_model(path, full_check=True)


def _trace(model: Baseline, card: ModelCard) -> torch.export.ExportedProgram:
    """The graph from images to normalised features, with no trace of this machine's folders."""
    blank = torch.zeros(2, 3, *input_size(card.preprocessing))
    shapes = {0: torch.export.Dim(BATCH)}
    if card.dynamic_size:
        shapes |= {2 + axis: torch.export.Dim(side, min=16) for axis, side in enumerate(SIDES)}
    try:
        program = torch.export.export(PixelsToFeatures(model), (blank,), dynamic_shapes={"images": shapes})
    except (RuntimeError, ValueError, torch._dynamo.exc.UserError) as error:
        if not card.dynamic_size:
            raise
        found = f"one that is bound to {input_size(card.preprocessing)}"
        raise InputError("--dynamic-size", "needs a backbone that takes images of any size", found) from error
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)
    return program


def plain_config(cfg: CfgNode, width: float, weights: str) -> CfgNode:
    """The config with which FastReID's ``DefaultPredictor`` builds one sub-model and loads it.

    The full model's has FastReID's own keys only, and names the ordinary backbone, ``Baseline`` and ``EmbeddingHead``:
    where that backbone is FastReID's, no plug-in is needed. A narrower one's channels are no setting of FastReID, so it
    names this plug-in's ``build_submodel`` and needs its keys (``add_switchablecompat_config``).

    ``weights`` is where the exported checkpoint is going to lie.
    """
    plain = get_cfg() if width == 1 else add_switchablecompat_config(get_cfg())
    losses = plain.MODEL.LOSSES.clone()
    for name in KEPT:
        _copy(cfg[name], plain[name])
    plain.MODEL.LOSSES = losses
    if width == 1:
        plain.MODEL.META_ARCHITECTURE = "Baseline"
        plain.MODEL.BACKBONE.NAME = cfg.MODEL.SWITCHABLE.BACKBONE
        plain.MODEL.HEADS.NAME = "EmbeddingHead"
    else:
        plain.MODEL.META_ARCHITECTURE = "build_submodel"
        plain.MODEL.SWITCHABLE.ONLY_WIDTH = float(width)
    plain.MODEL.HEADS.NUM_CLASSES = 0  # the classifier stays with the run: features do not need it
    plain.MODEL.DEVICE = "cpu"
    plain.MODEL.WEIGHTS = weights
    return plain


def _copy(source: CfgNode, target: CfgNode) -> None:
    """Set the keys that ``target`` has to their values in ``source``."""
    for key, value in target.items():
        if isinstance(value, CfgNode):
            _copy(source[key], value)
        else:
            target[key] = source[key]
