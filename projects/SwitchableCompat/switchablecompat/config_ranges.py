"""Ranges of FastReID's own keys of augmentation and schedule, which nothing upstream checks: key, rule, predicate."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from fastreid.config import CfgNode as CN  # noqa: N817  (FastReID's own abbreviation)

from .config_unread import value_of
from .errors import InputError

PADDING_MODES = ("constant", "edge", "reflect", "symmetric")  # torchvision's
CLIP_TYPES = ("norm", "value")


def _number(value: Any) -> bool:
    return type(value) in (int, float) and not math.isnan(value)


def _between(low: float, high: float) -> Callable[[Any], bool]:
    return lambda value: _number(value) and low <= value <= high


def _finite(value: Any) -> bool:
    return _number(value) and 0 <= value < math.inf


def _pair(least: float, greatest: float) -> Callable[[Any], bool]:
    """Two ascending numbers above ``least`` and up to ``greatest``."""

    def check(value: Any) -> bool:
        values = [*value]
        return len(values) == 2 and all(map(_number, values)) and least < values[0] <= values[1] <= greatest

    return check


def _whole_numbers(value: Any) -> bool:
    return all(type(one) is int and one >= 1 for one in value)


def _colour(value: Any) -> bool:
    return len(value) in (1, 3) and all(map(_between(0, 255), value))


PROBABILITY = "must be a probability, from 0 to 1"
NOT_NEGATIVE = "must be a finite number, not negative"
RULES: Sequence[tuple[str, str, Callable[[Any], bool]]] = (
    *(
        (f"INPUT.{name}.PROB", PROBABILITY, _between(0, 1))
        for name in ("FLIP", "CJ", "AUTOAUG", "AUGMIX", "REA", "RPT")
    ),
    *((f"INPUT.CJ.{name}", NOT_NEGATIVE, _finite) for name in ("BRIGHTNESS", "CONTRAST", "SATURATION")),
    ("INPUT.CJ.HUE", "must be from 0 to 0.5", _between(0, 0.5)),
    ("INPUT.PADDING.MODE", f"must be one of {list(PADDING_MODES)}", lambda value: value in PADDING_MODES),
    ("INPUT.PADDING.SIZE", "must be a number of pixels, not negative", lambda value: value >= 0),
    ("INPUT.REA.VALUE", "must be one number or three, from 0 to 255", _colour),
    ("INPUT.CROP.SCALE", "must be two ascending shares of the picture's area, above 0 and up to 1", _pair(0, 1)),
    ("INPUT.CROP.RATIO", "must be two ascending ratios of width to height, above 0", _pair(0, 1e6)),
    ("SOLVER.STEPS", "must be epochs, whole numbers from 1", _whole_numbers),
    ("SOLVER.GAMMA", "must be above 0 and up to 1", lambda value: 0 < value <= 1),
    ("SOLVER.WARMUP_FACTOR", "must be from 0 to 1", _between(0, 1)),
    *(
        (f"SOLVER.{name}", NOT_NEGATIVE, _finite)
        for name in ("HEADS_LR_FACTOR", "BIAS_LR_FACTOR", "WEIGHT_DECAY", "WEIGHT_DECAY_NORM", "WEIGHT_DECAY_BIAS",
                     "ETA_MIN_LR", "DELAY_EPOCHS", "FREEZE_ITERS")
    ),
    ("SOLVER.CLIP_GRADIENTS.CLIP_TYPE", f"must be one of {list(CLIP_TYPES)}", lambda value: value in CLIP_TYPES),
    ("SOLVER.CLIP_GRADIENTS.CLIP_VALUE", "must be above 0", lambda value: value > 0),
    ("SOLVER.CLIP_GRADIENTS.NORM_TYPE", "must be above 0", lambda value: value > 0),
)  # fmt: skip


def check_ranges_of_inputs(cfg: CN) -> None:
    """Refuse numbers that make no sense, and sizes that do not fit each other.

    Raises:
        InputError: Key, rule and the value found.
    """
    for key, rule, holds in RULES:
        value = value_of(cfg, key)
        if not holds(value):
            raise InputError(key, rule, list(value) if isinstance(value, list | tuple) else repr(value))
    _check_sizes(cfg)
    check_share(cfg, 1)
    solver = cfg.SOLVER
    if solver.OPT == "SGD" and solver.NESTEROV and not solver.MOMENTUM:
        raise InputError("SOLVER.NESTEROV", "needs a SOLVER.MOMENTUM above 0", True)


def check_share(cfg: CN, processes: int) -> None:
    """Refuse a batch that gives a process a single image where the head's batch norm needs two.

    Raises:
        InputError: The batch, and what it is for a process.
    """
    batch, heads = cfg.SOLVER.IMS_PER_BATCH, cfg.MODEL.HEADS
    together = processes > 1 and heads.NORM == "syncBN"
    if heads.WITH_BNNECK and not together and batch // processes < 2:
        rule = f"must be at least {2 * processes} on {processes} process(es): batch norm needs two images in each"
        raise InputError("SOLVER.IMS_PER_BATCH", rule, batch)


def _check_sizes(cfg: CN) -> None:
    """For testing FastReID resizes to SIZE_TEST and cuts CROP.SIZE out of its centre, black where that is larger."""
    if cfg.INPUT.CROP.ENABLED:
        size = list(cfg.INPUT.CROP.SIZE)
        if len(size) != 2 or not _whole_numbers(size):
            raise InputError("INPUT.CROP.SIZE", "must be height and width in pixels", size)
        _check_fit(size, "SIZE_TEST", cfg)


def check_training_sizes(cfg: CN) -> None:
    """For training it resizes to SIZE_TRAIN, crops to CROP.SIZE, pads, and crops to SIZE_TRAIN.

    Raises:
        InputError: Pictures would be corners, or padding, of what is meant.
    """
    train = list(cfg.INPUT.SIZE_TRAIN)
    crop, padding = cfg.INPUT.CROP, cfg.INPUT.PADDING
    if crop.ENABLED:
        _check_fit(list(crop.SIZE), "SIZE_TRAIN", cfg)
        if padding.ENABLED and list(crop.SIZE) != train:
            rule = f"must be INPUT.SIZE_TRAIN {train} with INPUT.PADDING.ENABLED, which cuts that size out of it again"
            raise InputError("INPUT.CROP.SIZE", rule, list(crop.SIZE))
    if padding.ENABLED and min(train) <= padding.SIZE:
        rule = f"must be below the shorter side of INPUT.SIZE_TRAIN {train}, or pictures may be all padding"
        raise InputError("INPUT.PADDING.SIZE", rule, padding.SIZE)


def _check_fit(size: list[int], name: str, cfg: CN) -> None:
    outer = list(cfg.INPUT[name])
    if any(inner > side for inner, side in zip(size, outer, strict=True)):
        raise InputError("INPUT.CROP.SIZE", f"must fit into INPUT.{name} {outer}", size)
