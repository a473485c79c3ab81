"""Write the three kinds of files that hold one sub-model, and the FastReID config of an exported checkpoint."""

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
# Parts of the config that describe a model, its input and its test. An exported model drops the training settings.
KEPT = ("MODEL", "INPUT", "DATASETS", "TEST")


def write_checkpoint(model: Baseline, path: Path, card: ModelCard, cfg: CfgNode, final: Path) -> None:
    """Write a FastReID checkpoint, with the card under this plug-in's key, and ``config.yaml`` beside it.

    ``cfg`` is the run's config; ``final`` is the file's final path, for ``MODEL.WEIGHTS``.
    """
    config = plain_config(cfg, card.width, str(final))
    record = {CARD_KEY: json.dumps(card.to_dict()), "features": feature_settings(config)}
    torch.save({"model": model.state_dict(), RECORD_KEY: record}, path)
    path.with_name(CONFIG_NAME).write_text(config.dump(), encoding="utf-8")


def write_program(model: Baseline, path: Path, card: ModelCard) -> None:
    """Write a program of ``torch.export``: input ``images``, any batch size, card among its extra files."""
    program = _trace(model, card)
    program.example_inputs = None
    content = io.BytesIO()  # on a full disk, torch's file writer would end the process when it is collected
    torch.export.save(program, content, extra_files={CARD_KEY: json.dumps(card.to_dict())})
    path.write_bytes(content.getbuffer())


def write_onnx(model: Baseline, path: Path, card: ModelCard) -> None:
    """Write one ONNX file: input ``images``, output ``features``, any batch size, card and its main fields as metadata.

    Height and width are open too if the card says ``dynamic_size``; a network that needs its image size is rejected.
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
    for node in content.graph:  # remove source locations, which name folders of this machine
        node.metadata_props.clear()
    content.metadata_props.update(
        family=card.family, width=str(card.width), dimension=str(card.dimension), metric=card.metric
    )
    content.metadata_props[CARD_KEY] = json.dumps(card.to_dict())
    exported.save(path, external_data=False)
    checker.check_model(path, full_check=True)


def _trace(model: Baseline, card: ModelCard) -> torch.export.ExportedProgram:
    """Trace the graph from images to normalised features, without paths of this machine."""
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

    The full model's config has only FastReID's own keys, and names the ordinary backbone, ``Baseline`` and
    ``EmbeddingHead``. If that backbone is FastReID's, it needs no plug-in. FastReID has no setting for the channels of
    a narrower sub-model, so its config names this plug-in's ``build_submodel`` and needs its keys
    (``add_switchablecompat_config``).

    ``weights`` is the final path of the exported checkpoint.
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
    plain.MODEL.HEADS.NUM_CLASSES = 0  # features do not need the classifier
    plain.MODEL.DEVICE = "cpu"
    plain.MODEL.WEIGHTS = weights
    return plain


def _copy(source: CfgNode, target: CfgNode) -> None:
    for key, value in target.items():
        if isinstance(value, CfgNode):
            _copy(source[key], value)
        else:
            target[key] = source[key]
