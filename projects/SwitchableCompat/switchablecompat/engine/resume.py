"""Checks of a resume: what a resumed run may change, and what must equal the interrupted run."""

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

from fastreid.config import CfgNode
from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler

from ..config import merge_kept
from ..config_unread import why_unread
from ..errors import InputError
from ..modeling.checkpoint import RECORD_KEY
from ..modeling.trained import run_record
from ..settings import RUN_KEYS, Difference, differences, flat_settings, refuse_differences
from .training_set import training_set_record

logger = logging.getLogger("fastreid.switchablecompat.resume")

LENGTH, SHARE = "SOLVER.MAX_EPOCH", "MODEL.SWITCHABLE.SLOW_START"


def check_settings(cfg: CfgNode, record: Mapping[str, Any], path: str) -> list[str]:
    """Compare a config, key by key, with the record in the checkpoint to resume, before anything is loaded.

    Settings that do not affect the training (``RUN_KEYS``) may change, and the training may become longer. All other
    settings must be equal.

    Returns:
        One line for each accepted difference and for each unknown value, to be logged when the log exists.

    Raises:
        InputError: Settings that must not change have changed (with all of them and both values).
    """
    seed = record.get("seed")
    if seed is not None and cfg.SEED not in (seed, -1):
        raise InputError("SEED", f"must be {seed} to resume {path}, or -1", cfg.SEED)
    if "settings" not in record:
        return [f"{path} keeps no settings: only shapes can be compared"]
    there, here = flat_settings(merge_kept(record["settings"], path)), flat_settings(cfg)
    found = [one for one in differences(there, here) if not _means_the_same(one, there, here)]
    taken = [one for one in found if one.key in RUN_KEYS or (one.key == LENGTH and one.here > one.there)]
    refuse_differences([one for one in found if one not in taken], f" to resume {path}")
    lines = [f"Resumed with another {one.key}: {one.there!r} before, {one.here!r} now" for one in taken]
    if any(one.key == LENGTH for one in taken) and here[SHARE] and not why_unread(SHARE, here.__getitem__):
        lines.append(
            f"{SHARE} is a share of {LENGTH}: the epochs so far had that of {there[LENGTH]} epochs, so that this run "
            f"is not that of {here[LENGTH]} from the start"
        )
    before, now = (files.get("MODEL.REFERENCE.WEIGHTS") for files in (record["files"], run_record(cfg)["files"]))
    if before and now and before != now:
        rule = f"must hold the model that the run was trained with, to resume {path}"
        raise InputError("MODEL.REFERENCE.WEIGHTS", rule, f"another one in {cfg.MODEL.REFERENCE.WEIGHTS!r}")
    return lines


def check_state(content: Mapping[str, Any], path: str, items: Sequence[tuple[Any, ...]], optimizer: Optimizer) -> None:
    """Check that the content of the checkpoint ``path`` fits the items of the training set and the optimiser.

    Raises:
        InputError: Identities, images or their order differ, or the optimiser or its parameter groups do.
    """
    digest = content.get(RECORD_KEY, {}).get("training_set")
    if digest is not None and digest != training_set_record(items)["training_set"]:
        rule = f"must have the run's identities in the same order, with the same images, to resume {path}"
        found = f"others, or another order, in {len(items)} images of {len({item[1] for item in items})} identities"
        raise InputError("DATASETS.NAMES", rule, found)
    if "optimizer" not in content:
        return
    states = (content["optimizer"], optimizer.state_dict())
    there, here = ([_shape(group) for group in state["param_groups"]] for state in states)
    if len(there) != len(here) or any(a[0] != b[0] for a, b in zip(there, here, strict=True)):
        rule = f"must give the run's groups of parameters, {[size for size, _ in there]}, to resume {path}"
        raise InputError("SOLVER", rule, [size for size, _ in here])
    if any(not a[1] <= b[1] for a, b in zip(there, here, strict=True)):  # a newer torch may know more options
        rule = f"must be the optimiser of the run, with {', '.join(sorted(there[0][1]))}, to resume {path}"
        raise InputError("SOLVER.OPT", rule, ", ".join(sorted(here[0][1])))


def follow_new_length(scheduler: LRScheduler, periods: int | None, epochs: tuple[int, int]) -> None:
    """After a resume, adapt a schedule that depends on the length of the training to the new length.

    Args:
        scheduler: FastReID's ``lr_sched``, with the state of the checkpoint.
        periods: ``T_max`` of a cosine schedule of the new length, from before the state was loaded; None for other
            schedules.
        epochs: Number of finished epochs, and of all epochs.
    """
    if not isinstance(scheduler, CosineAnnealingLR) or periods is None or scheduler.T_max == periods:
        return
    logger.warning(
        f"SOLVER.SCHED {type(scheduler).__name__} depends on {LENGTH}. The first {epochs[0]} epochs followed it for "
        f"another length; the rate continues as in a run of {epochs[1]} epochs, so this run differs from such a run"
    )
    scheduler.T_max = periods
    done = scheduler.last_epoch
    if done > 0:  # before, it is the warm-up's
        falling = (1 + math.cos(math.pi * done / periods)) / 2
        rates = [scheduler.eta_min + (base - scheduler.eta_min) * falling for base in scheduler.base_lrs]
        for group, rate in zip(scheduler.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
        scheduler._last_lr = rates


def _means_the_same(one: Difference, there: Mapping[str, Any], here: Mapping[str, Any]) -> bool:
    """Whether a difference has no meaning: an open seed, classes to be counted, the folder, or an unread setting."""
    if one.key == "OUTPUT_DIR" or (one.key, one.here) in (("SEED", -1), ("MODEL.HEADS.NUM_CLASSES", 0)):
        return True
    return bool(why_unread(one.key, there.__getitem__) and why_unread(one.key, here.__getitem__))


def _shape(group: Mapping[str, Any]) -> tuple[int, set[str]]:
    return len(group["params"]), {*group} - {"params"}
