"""Counts that the run is too short for: refused or said, with both numbers."""

import pytest
import torch
from fastreid.solver import lr_scheduler

from builders import tiny_config
from switchablecompat.engine.schedule_check import check_schedule
from switchablecompat.errors import InputError

FREEZE = ("MODEL.FREEZE_LAYERS", "['backbone']", "SOLVER.FREEZE_ITERS")
STEPS = ("SOLVER.SCHED", "MultiStepLR", "SOLVER.WARMUP_ITERS", 0, "SOLVER.STEPS")
STEPS_LINE = (
    "SOLVER.STEPS {}: the rate never falls there; after warm-up and DELAY_EPOCHS this run of 3 epochs of 4 iterations "
    "has {} steps of the schedule"
)
BN = ("TEST.PRECISE_BN.ENABLED", True, "TEST.PRECISE_BN.DATASET", "SyntheticReIDTiny", "TEST.PRECISE_BN.NUM_ITER")


def of_run(epochs, iterations, *opts):
    return check_schedule(tiny_config("SOLVER.MAX_EPOCH", epochs, *opts), iterations)


@pytest.mark.parametrize(
    ("opts", "lines"),
    [
        ((*FREEZE, 5000), ["SOLVER.FREEZE_ITERS 5000: backbone stays frozen in all 12 iterations"]),
        ((*FREEZE, 12), ["SOLVER.FREEZE_ITERS 12: backbone stays frozen in all 12 iterations"]),
        ((*FREEZE, 11), []),
        (("SOLVER.FREEZE_ITERS", 5000), []),
        ((*STEPS, "[1, 2]"), []),
        ((*STEPS, "[2, 30, 55]"), [STEPS_LINE.format([30, 55], 2)]),
        ((*STEPS, "[2]", "SOLVER.DELAY_EPOCHS", 1), [STEPS_LINE.format([2], 1)]),
        ((*STEPS, "[1]", "SOLVER.WARMUP_ITERS", 9), [STEPS_LINE.format([1], 0)]),
        (("SOLVER.STEPS", "[30, 55]", "SOLVER.SCHED", "CosineAnnealingLR"), []),
        ((*BN, 5), ["TEST.PRECISE_BN.NUM_ITER 5: an epoch has 4 batches, so images repeat"]),
        ((*BN, 4), []),
    ],
)
def test_what_never_takes_effect_is_said(opts, lines):
    found = of_run(3, 4, "SOLVER.WARMUP_ITERS", 0, *BN[:2], *BN[2:4], BN[4], 4, *opts)
    assert found == lines


def test_milestones_count_as_fastreids_scheduler_does():
    """The rate after each epoch, by the scheduler itself: the last milestone that is not named is reached."""
    for milestone in range(1, 6):
        cfg = tiny_config(
            "SOLVER.MAX_EPOCH", 5, "SOLVER.SCHED", "MultiStepLR", "SOLVER.STEPS", f"[{milestone}]",
            "SOLVER.WARMUP_ITERS", 6, "TEST.PRECISE_BN.ENABLED", False,
        )  # fmt: skip
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
        scheduler = lr_scheduler.MultiStepLR(optimizer, cfg.SOLVER.STEPS, cfg.SOLVER.GAMMA)
        rates = []
        for epoch in range(5):  # of 4 iterations; FastReID's hook steps when iteration > warm-up
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            if 4 * (epoch + 1) > cfg.SOLVER.WARMUP_ITERS:
                scheduler.step()
        assert bool(check_schedule(cfg, 4)) == (rates[-1] == 1.0), milestone


@pytest.mark.parametrize(
    ("opts", "message"),
    [
        (("SOLVER.WARMUP_ITERS", 12, "SOLVER.SCHED", "MultiStepLR"), "SOLVER.WARMUP_ITERS: must be below the 12 .*12$"),
        (
            ("SOLVER.WARMUP_ITERS", 2000),
            "SOLVER.WARMUP_ITERS: must be below the 12 iterations of this run .* found 2000",
        ),
        (("SOLVER.WARMUP_ITERS", 9), "SOLVER.MAX_EPOCH: must leave epochs for the cosine schedule .*, found 3"),
        (("SOLVER.DELAY_EPOCHS", 3), "SOLVER.MAX_EPOCH: must leave epochs for the cosine schedule .*, found 3"),
    ],
)
def test_a_rate_that_never_arrives_is_refused(opts, message):
    with pytest.raises(InputError, match=message):
        of_run(3, 4, "SOLVER.SCHED", "CosineAnnealingLR", *opts)
