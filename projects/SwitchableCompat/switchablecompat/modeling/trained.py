"""Opens a trained model: its checkpoint, its settings, and the record of its run."""

import hashlib
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
from ..files import data_root, found_below
from ..provenance import json_digest, weights_digest
from ..settings import RUN_KEYS, differences, feature_settings, flat_settings, refuse_differences
from .checkpoint import RECORD_KEY, read_checkpoint, read_weights

logger = logging.getLogger("fastreid.switchablecompat.trained")

CONFIG_NAME = "config.yaml"  # FastReID's, in the output folder of a run
# Settings that name a file. A recipe's digest contains the digest of the file's content.
FILES = ("MODEL.WEIGHTS", "MODEL.BACKBONE.PRETRAIN_PATH", "MODEL.REFERENCE.WEIGHTS", "DATASETS.MANIFEST")
NOT_RECIPE = (*RUN_KEYS, "SEED", "MODEL.HEADS.NUM_CLASSES")
CLASSIFIER = ("CLS_LAYER", "SCALE")  # settings below MODEL.HEADS on which a reference's logits depend


@dataclass(frozen=True)
class Trained:
    """A checkpoint and its settings."""

    cfg: CfgNode  # neither frozen nor checked
    content: dict[str, Any]  # of the file
    record: dict[str, Any]  # of its run; if the file has none, derived from the config


def read_trained(
    weights: str, config_file: str = "", opts: Sequence[str] = (), file_key: str = "--config-file"
) -> Trained:
    """Read a checkpoint and its config (default: the checkpoint's settings, else ``config.yaml`` beside it).

    The config and the ``KEY VALUE`` pairs ``opts`` must not contradict settings on which features depend. A message
    about a missing config calls it ``file_key``.

    Raises:
        InputError: A file is missing or invalid, or a setting contradicts the checkpoint's (with both values).
    """
    if config_file and not os.path.isfile(config_file):  # before a large file is read
        raise InputError(file_key, "must be an existing yaml file", config_file)
    content = read_checkpoint(weights)
    record = content.get(RECORD_KEY, {})
    cfg, name = _config(weights, record, config_file, opts, file_key)
    if "features" in record:
        found = differences(record["features"], feature_settings(cfg))
        refuse_differences(found, f", as {weights} was trained", f" in {name}")
    else:
        logger.warning(
            f"{weights} stores no settings (a file of an earlier version, or of FastReID), so it cannot be checked "
            f"whether {name} is the config of its training"
        )
    return Trained(cfg, content, record or run_record(cfg))


def _config(
    weights: str, record: Mapping[str, Any], config_file: str, opts: Sequence[str], file_key: str
) -> tuple[CfgNode, str]:
    """The config, and its name in messages."""
    beside = os.path.join(os.path.dirname(weights), CONFIG_NAME)
    if not config_file and "settings" in record:
        place = ("OUTPUT_DIR", repr(os.path.dirname(weights) or "."))
        return merge_kept(record["settings"], weights, (*place, *opts)), "the KEY VALUE overrides"
    if not config_file and not os.path.isfile(beside):
        rule = f"must be given: {weights} keeps no settings, and there is no {CONFIG_NAME} beside it"
        raise InputError(file_key, rule)
    return merge_config(config_file or beside, opts, file_key), config_file or beside


def run_record(cfg: CfgNode) -> dict[str, Any]:
    """Record of a run that its checkpoints keep, independent of later command lines.

    Returns:
        ``method`` (``custom`` without a name), ``seed`` and ``widths``; ``features``, the settings on which features
        depend; ``settings``, the whole config as yaml, without OUTPUT_DIR; ``files``, digests of the files that the
        config names; and ``config``, the digest of the recipe. It covers these files and all settings except seed,
        number of classes and ``RUN_KEYS``.
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
        "config": json_digest(recipe),
    }


def reference_digest(path: str, config_file: str = "") -> str:
    """Digest of a checkpoint as a record's ``files`` has it for MODEL.REFERENCE.WEIGHTS."""
    return _weights(path, config_file, *(os.stat(file).st_mtime_ns for file in (path, config_file) if file))


def _content(cfg: CfgNode, key: str) -> str:
    """Digest of the content of the file that a setting names; empty without a file."""
    path = flat_settings(cfg)[key]
    if key == "DATASETS.MANIFEST" and path:
        path = found_below(path, data_root()) or path
    if not os.path.isfile(path) or (key == "MODEL.BACKBONE.PRETRAIN_PATH" and not cfg.MODEL.BACKBONE.PRETRAIN):
        return ""
    if key != "DATASETS.MANIFEST":
        with suppress(InputError, OSError):  # not only tensors, or no config: the code that uses the file reports it
            if key == "MODEL.REFERENCE.WEIGHTS":
                return reference_digest(path, cfg.MODEL.REFERENCE.CONFIG_FILE)
            return _weights(path, None, os.stat(path).st_mtime_ns)
    with open(path, "rb") as file:
        return f"sha256:{hashlib.sha256(file.read()).hexdigest()}"


@cache
def _weights(path: str, reference_config: str | None, *changed: int) -> str:
    """Digest of the tensors in a file, and for a reference of the settings of its outputs; cached while unchanged."""
    content = read_weights(path)
    if reference_config is None:
        return weights_digest(content, {})
    cfg, _ = _config(path, read_checkpoint(path).get(RECORD_KEY, {}), reference_config, (), "")
    return weights_digest(content, feature_settings(cfg) | {"classifier": [cfg.MODEL.HEADS[k] for k in CLASSIFIER]})
