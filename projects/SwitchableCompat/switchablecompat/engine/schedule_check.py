"""Checks the counts of a schedule against the real length of the run, which is known when the loader is built."""

import math

from fastreid.config import CfgNode

from ..errors import InputError


def check_schedule(cfg: CfgNode, iters_per_epoch: int) -> list[str]:
    """Compare warm-up, freezing, milestones, delay and BN calibration with the run's epochs and iterations.

    FastReID's schedulers step once an epoch, and only after warm-up and ``DELAY_EPOCHS``; its milestones count these
    steps. An epoch has as many iterations as whole batches.

    Returns:
        One line for each count that never takes effect, with both numbers.

    Raises:
        InputError: The warm-up would never end, or no epoch would be left for the schedule.
    """
    solver = cfg.SOLVER
    iterations = solver.MAX_EPOCH * iters_per_epoch
    run = f"{solver.MAX_EPOCH} epochs of {iters_per_epoch} iterations"
    before = max(math.ceil(solver.WARMUP_ITERS / max(iters_per_epoch, 1)), solver.DELAY_EPOCHS)
    if solver.WARMUP_ITERS >= iterations > 0:
        rule = f"must be below the {iterations} iterations of this run ({run}), or the rate never reaches BASE_LR"
        raise InputError("SOLVER.WARMUP_ITERS", rule, solver.WARMUP_ITERS)
    if solver.SCHED == "CosineAnnealingLR" and before >= solver.MAX_EPOCH:
        rule = f"must leave epochs for the cosine schedule after warm-up and DELAY_EPOCHS ({before})"
        raise InputError("SOLVER.MAX_EPOCH", rule, solver.MAX_EPOCH)

    unfit = []
    if cfg.MODEL.FREEZE_LAYERS and iterations <= solver.FREEZE_ITERS:
        layers = ", ".join(cfg.MODEL.FREEZE_LAYERS)
        unfit.append(f"SOLVER.FREEZE_ITERS {solver.FREEZE_ITERS}: {layers} stays frozen in all {iterations} iterations")
    first = max(solver.WARMUP_ITERS // max(iters_per_epoch, 1), solver.DELAY_EPOCHS)  # after this epoch, from 0
    steps = max(solver.MAX_EPOCH - 1 - first, 0)
    never = [step for step in solver.STEPS if step > steps]
    if solver.SCHED == "MultiStepLR" and never:
        after = f"after warm-up and DELAY_EPOCHS this run of {run} has {steps} steps of the schedule"
        unfit.append(f"SOLVER.STEPS {never}: the rate never falls there; {after}")
    calibration = cfg.TEST.PRECISE_BN
    if calibration.ENABLED and calibration.DATASET in cfg.DATASETS.NAMES and iters_per_epoch < calibration.NUM_ITER:
        unfit.append(
            f"TEST.PRECISE_BN.NUM_ITER {calibration.NUM_ITER}: an epoch has {iters_per_epoch} batches, so images repeat"
        )
    return unfit
