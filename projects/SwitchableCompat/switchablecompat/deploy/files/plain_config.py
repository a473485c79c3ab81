"""The FastReID config of an exported sub-model."""

from __future__ import annotations

from fastreid.config import CfgNode as CN  # noqa: N817  (FastReID's own abbreviation)
from fastreid.config import get_cfg

from ...config import add_switchablecompat_config

# What a model is, what it gets, and how it is tested; how it was trained is no matter of an exported model.
KEPT = ("MODEL", "INPUT", "DATASETS", "TEST")


def plain_config(cfg: CN, width: float, weights: str) -> CN:
    """The config with which FastReID's ``DefaultPredictor`` builds one sub-model and loads it.

    The full model's has FastReID's own keys only, and names the ordinary backbone, ``Baseline`` and ``EmbeddingHead``:
    where that backbone is FastReID's, no plug-in is needed. A narrower one's channels are no setting of FastReID, so it
    names this plug-in's ``build_submodel`` and needs its keys (``add_switchablecompat_config``).

    Args:
        cfg: The run's config.
        width: Which sub-model.
        weights: Where the exported checkpoint is going to lie.
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


def _copy(source: CN, target: CN) -> None:
    """Set the keys that ``target`` has to their values in ``source``."""
    for key, value in target.items():
        if isinstance(value, CN):
            _copy(source[key], value)
        else:
            target[key] = source[key]
