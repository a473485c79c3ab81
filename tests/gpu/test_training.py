"""The training step on a GPU: precision, overflow, memory format, determinism, and what it waits for."""

import pytest
import torch
from fastreid.utils.events import EventStorage

from loops import make_loop, train, weights
from switchablecompat.engine.fused_optimizer import is_fused
from switchablecompat.engine.step_log import REPORT_EVERY, StepLog

pytestmark = pytest.mark.gpu
HALF = ("SOLVER.AMP.ENABLED", True)
BF16 = ("SOLVER.AMP.ENABLED", True, "SOLVER.AMP.DTYPE", "bfloat16")
SFSC = (
    *("MODEL.LOSSES.NAME", "('CompatibleLoss','DistillationLoss','TripletLoss')", "SOLVER.AGGREGATION.MEMORY", 0.9),
    *("MODEL.SWITCHABLE.CLASSIFIER_GRAD", "certain"),
)
LAST = ("MODEL.SWITCHABLE.CHANNELS_LAST", True)


@pytest.mark.parametrize("opts", [(), HALF, BF16, (*HALF, *LAST)], ids=["float32", "float16", "bfloat16", "half, last"])
def test_training_lowers_the_loss(opts):
    losses = train(make_loop(*opts), 40)
    assert losses[-1] < 0.7 * losses[0]
    assert len(losses) >= 38  # the first steps under a scaler may overflow


@pytest.mark.parametrize("optimizer", ["SGD", "Adam"])
def test_one_float32_step_is_the_cpus(optimizer):
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    opts = ("SOLVER.OPT", optimizer, "SOLVER.BASE_LR", 0.001)
    on_gpu, on_cpu = make_loop(*opts), make_loop(*opts, device="cpu")
    on_cpu.model.load_state_dict(on_gpu.model.state_dict())
    assert is_fused(on_gpu.optimizer)
    a, b = train(on_gpu, 1), train(on_cpu, 1)
    assert a == pytest.approx(b, rel=1e-4)
    moved = weights(on_gpu)
    # Adam's first step has the size of the rate wherever a gradient is not zero: where it is rounding, signs differ
    limit = 2.1e-3 if optimizer == "Adam" else 1e-4
    for name, value in weights(on_cpu).items():
        assert (value - moved[name]).abs().max() <= limit, name


def test_an_overflow_is_skipped_for_all_and_halves_the_scale():
    loop = make_loop(*HALF, scale=2.0**40)  # any float16 gradient overflows
    before = weights(loop)
    with EventStorage():
        loop.run_step()
    after = weights(loop)
    assert loop.grad_scaler.get_scale() == 2.0**39
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("optimizer", ["SGD", "Adam"])
def test_training_starts_after_steps_that_overflow(optimizer):
    loop = make_loop(*HALF, "SOLVER.OPT", optimizer, "SOLVER.BASE_LR", 0.001, scale=2.0**30)
    torch.full((2**26,), float("nan"), device="cuda")  # is in memory that the next tensors get
    losses = train(loop, 40)
    assert loop.grad_scaler.get_scale() < 2.0**30
    assert losses[-1] < losses[0]
    assert all(value.isfinite().all() for value in weights(loop).values())


def test_a_nan_without_a_scaler_changes_nothing_and_is_told():
    loop = make_loop()
    before, original = weights(loop), loop.model.submodel_losses
    loop.log.epoch_length = 3

    def spoiled(images, targets, index):
        losses, diagnostics = original(images, targets, index)
        return {key: loss * float("nan") if index == 0 else loss for key, loss in losses.items()}, diagnostics

    loop.model.submodel_losses = spoiled
    with EventStorage():
        for loop.iter in range(2):
            loop.run_step()
        after = weights(loop)
        loop.iter = 2
        with pytest.raises(FloatingPointError, match=r"^iteration 0: loss_compat_w025 is nan"):
            loop.run_step()
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("opts", [(), HALF, BF16, SFSC], ids=["float32", "float16", "bfloat16", "sfsc"])
def test_a_step_waits_for_the_device_only_where_the_log_is_read(opts):
    loop = make_loop(*opts)
    assert loop.log.every == REPORT_EVERY
    with EventStorage():
        for loop.iter in range(3):  # what begins on the CPU moves, libraries start
            loop.run_step()
        torch.cuda.set_sync_debug_mode("error")
        try:
            for loop.iter in range(3, 8):
                loop.run_step()
        finally:
            torch.cuda.set_sync_debug_mode("default")


def test_channels_last_gives_the_same_loss(device):
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    found, expected = (train(make_loop(*opts, device=device), 3) for opts in (LAST, ()))
    assert found == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize(
    "opts", [(), SFSC, (*BF16, *LAST), (*HALF, *LAST)], ids=["float32", "sfsc", "bfloat16, last", "half, last"]
)
def test_two_runs_are_the_same_bit_for_bit(opts, device):
    if device == "cpu" and opts[:2] == HALF and "bfloat16" not in opts:
        pytest.skip("float16 needs a CUDA device")
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
    first, second = make_loop(*opts, device=device), make_loop(*opts, device=device)
    assert train(first, 10) == train(second, 10)
    a, b = weights(first), weights(second)
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_reading_the_log_in_every_step_trains_the_same():
    torch.backends.cudnn.deterministic = True
    now, later = make_loop(log=StepLog()), make_loop()
    assert train(now, 6) == train(later, 6)
