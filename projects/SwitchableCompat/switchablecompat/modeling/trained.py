"""A trained model by its checkpoint: the settings that it was trained with, and what it keeps of its run."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import Any

from fastreid.config import CfgNode

from ..config import merge_config, merge_kept
from ..errors import InputError
from ..provenance import weights_digest
from ..settings import RUN_KEYS, differences, feature_settings, flat_settings, refuse_differences
from .checkpoint import RECORD_KEY, read_checkpoint, read_weights

logger = logging.getLogger("fastreid.switchablecompat.trained")

CONFIG_NAME = "config.yaml"  # FastReID's, in the output folder of a run
# Settings that name a file: a recipe's digest knows it by its content.
FILES = ("MODEL.WEIGHTS", "MODEL.BACKBONE.PRETRAIN_PATH", "MODEL.REFERENCE.WEIGHTS", "DATASETS.MANIFEST")
NOT_RECIPE = (*RUN_KEYS, "SEED", "MODEL.HEADS.NUM_CLASSES")
CLASSIFIER = ("CLS_LAYER", "SCALE")  # what a reference's logits depend on, below MODEL.HEADS


@dataclass(frozen=True)
class Trained:
    """A checkpoint and the settings to use it with.

    Attributes:
        cfg: Its config, neither frozen nor checked.
        content: What is in the file.
        record: What it keeps of its run; of a file that keeps nothing, what the config says.
    """

    cfg: CfgNode
    content: dict[str, Any]
    record: dict[str, Any]


def read_trained(
    weights: str, config_file: str = "", opts: Sequence[str] = (), file_key: str = "--config-file"
) -> Trained:
    """Read a checkpoint, with its config and overrides that may not contradict what features depend on.

    Args:
        weights: The checkpoint.
        config_file: A config; by default what the checkpoint keeps, else ``config.yaml`` beside it.
        opts: ``KEY VALUE`` pairs.
        file_key: What a message about an absent config names.

    Raises:
        InputError: A file that is missing or none, or a setting that contradicts the checkpoint's; the line has both
            values.
    """
    if config_file and not os.path.isfile(config_file):
        raise InputError(file_key, "must be an existing yaml file", config_file)
    content = read_checkpoint(weights)
    record = content.get(RECORD_KEY, {})
    cfg, name = _config(weights, record, config_file, opts, file_key)
    _check_features(weights, record, cfg, name)
    return Trained(cfg, content, record or run_record(cfg))


def _check_features(weights: str, record: Mapping[str, Any], cfg: CfgNode, name: str) -> None:
    """Refuse a config, called ``name``, that contradicts what a checkpoint keeps; log a line where it keeps nothing."""
    if "features" in record:
        found = differences(record["features"], feature_settings(cfg))
        refuse_differences(found, f", as {weights} was trained", f" in {name}")
    else:
        logger.warning(
            f"{weights} keeps no settings (an earlier version's, or FastReID's): whether {name} is the config that it "
            "was trained with cannot be known"
        )


def _config(
    weights: str, record: Mapping[str, Any], config_file: str, opts: Sequence[str], file_key: str
) -> tuple[CfgNode, str]:
    """The config, and what to call it."""
    beside = os.path.join(os.path.dirname(weights), CONFIG_NAME)
    if not config_file and "settings" in record:
        place = ("OUTPUT_DIR", repr(os.path.dirname(weights) or "."))
        return merge_kept(record["settings"], weights, (*place, *opts)), "the KEY VALUE overrides"
    if not config_file and not os.path.isfile(beside):
        rule = f"must be given: {weights} keeps no settings, and there is no {CONFIG_NAME} beside it"
        raise InputError(file_key, rule)
    return merge_config(config_file or beside, opts, file_key, trained=True), config_file or beside


def run_record(cfg: CfgNode) -> dict[str, Any]:
    """What a trained model keeps of its run, whatever a later command line says.

    Returns:
        ``method`` (``custom`` without a name), ``seed`` and ``widths``; ``features``, the settings that they depend
        on; ``settings``, the whole config as yaml, without its place; ``files``, digests of the files that it names;
        and ``config``, a digest of the recipe: of these files and of all settings but seed, number of classes and
        ``RUN_KEYS``.
    """
    files = {key: _content(cfg, key) for key in FILES}
    recipe = {key: value for key, value in flat_settings(cfg).items() if key not in NOT_RECIPE} | files
    kept = cfg.clone()
    kept.defrost()
    kept.OUTPUT_DIR = ""
    return {
        "method": cfg.METHOD or "custom",
        "seed": int(cfg.SEED),
        "widths": [float(width) for width in cfg.MODEL.SWITCHABLE.WIDTHS],
        "features": feature_settings(cfg),
        "settings": kept.dump(),
        "files": files,
        "config": f"sha256:{hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()}",
    }


def _content(cfg: CfgNode, key: str) -> str:
    """Digest of what is in the file that a setting names; empty without a file."""
    path = flat_settings(cfg)[key]
    if not os.path.isfile(path) or (key == "MODEL.BACKBONE.PRETRAIN_PATH" and not cfg.MODEL.BACKBONE.PRETRAIN):
        return ""
    if key != "DATASETS.MANIFEST":
        reference = cfg.MODEL.REFERENCE.CONFIG_FILE if key == "MODEL.REFERENCE.WEIGHTS" else None
        with suppress(InputError, OSError):  # more than tensors in it, or no config: whoever uses the file says so
            return _weights(path, reference, *(os.stat(file).st_mtime_ns for file in (path, reference) if file))
    with open(path, "rb") as file:
        return f"sha256:{hashlib.sha256(file.read()).hexdigest()}"


@cache
def _weights(path: str, reference_config: str | None, *changed: int) -> str:
    """Digest of the tensors in a file, of a reference with what its outputs depend on besides; kept while unchanged."""
    content = read_weights(path)
    if reference_config is None:
        return weights_digest(content, {})
    cfg, _ = _config(path, read_checkpoint(path).get(RECORD_KEY, {}), reference_config, (), "")
    return weights_digest(content, feature_settings(cfg) | {"classifier": [cfg.MODEL.HEADS[k] for k in CLASSIFIER]})
