"""The end of an epoch, and runs that end early: by SIGTERM within an epoch, by an error in an evaluation."""

import argparse
import gc
import json
import logging
import os
import random
import signal
import sys

import fastreid.data.build
import numpy as np
import pytest
import torch
from fastreid.utils.env import seed_all_rng
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from builders import TINY
from switchablecompat.engine import SwitchableTrainer, hooks, setup, trainer
from switchablecompat.engine.fused_optimizer import use_fused_kernels
from switchablecompat.errors import InputError
from switchablecompat.fastreid_shims.loading import use_cpu_loader

STEPS = 6  # of an epoch
OPTIONS = (
    "SEED", "3", "SOLVER.MAX_EPOCH", "3", "SOLVER.CHECKPOINT_PERIOD", "3", "MODEL.SWITCHABLE.WIDTHS", "[0.5, 1.0]",
    "SOLVER.AGGREGATION.NAME", "gradvac", "SOLVER.AGGREGATION.GRANULARITY", "layer",
    "MODEL.LOSSES.COMPAT.PRIORITY", "0.5", "INPUT.REA.ENABLED", "True",
)  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def _data(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        root = str(tmp_path_factory.mktemp("datasets"))
        patch.setenv("FASTREID_DATASETS", root)
        patch.setattr(fastreid.data.build, "_root", root)  # read when it was imported
        yield
    use_cpu_loader(None)
    logging.getLogger("fastreid").handlers.clear()


class Trainer(SwitchableTrainer):
    """Counts evaluations, and draws what a dropout layer would: a number that steps depend on."""

    evaluate = staticmethod(lambda number: {"metric": float(number)})  # of the evaluation's number, from 0

    @classmethod
    def test(cls, cfg, model, record=None):
        cls.evaluations += 1
        return cls.evaluate(cls.evaluations - 1)

    def run_step(self):
        drawn = random.random() + np.random.rand() + torch.rand(1).item()
        with torch.no_grad():
            self.model.heads.weight.mul_(1 + drawn / 100)
        super().run_step()


def make(folder, *opts, resume=False, evaluate=None):
    """What ``train_net`` trains, in this process, whose random state is different each time."""
    gc.collect()  # the loader of a run that was stopped has a process, which ends with it, and not while tests end
    seed_all_rng(int(np.random.SeedSequence().generate_state(1)[0]))
    options = [*OPTIONS, *opts, "OUTPUT_DIR", str(folder)]
    made = Trainer(setup(argparse.Namespace(config_file=TINY, opts=options, eval_only=False, resume=resume)))
    Trainer.evaluations, Trainer.evaluate = 0, staticmethod(evaluate or (lambda number: {"metric": float(number)}))
    made.resume_or_load(resume)
    return made


def kill_at(made, step):
    """Send SIGTERM to this process in a step, counted from the run's first one."""
    run_step = made.run_step

    def killed():
        if made.iter == step:
            os.kill(os.getpid(), signal.SIGTERM)
        run_step()

    made.run_step = killed


def terminated(made):
    """Train until SIGTERM ends it."""
    with pytest.raises(SystemExit) as stop:
        made.train()
    assert stop.value.code == 143
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def content(folder, name):
    """All states of a checkpoint; its record has the periods, which differ between tests."""
    whole = torch.load(folder / f"{name}.pth", weights_only=True)
    del whole["switchablecompat"]
    return whole


@pytest.fixture(scope="module")
def uninterrupted(_data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    make(folder).train()
    return content(folder, "model_final")


def same(one, other):
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


@pytest.mark.parametrize(("step", "workers"), [(1, 0), (STEPS - 1, 0), (STEPS, 0), (3 * STEPS - 1, 0), (8, 1)])
def test_a_run_ended_within_an_epoch_goes_on_at_its_next_step_bit_for_bit(uninterrupted, tmp_path, step, workers):
    """In the first epoch, at the last step of one, at its first, at the last of all; with a process that loads."""
    made = make(tmp_path, "DATALOADER.NUM_WORKERS", str(workers))
    kill_at(made, step)
    terminated(made)
    assert (tmp_path / "last_checkpoint").read_text() == "model_interrupted.pth"
    left = content(tmp_path, "model_interrupted")
    assert (left["epoch"], left["progress"]["steps"]) == (step // STEPS - 1, step % STEPS + 1)
    assert not (tmp_path / "model_final.pth").exists()

    resumed = make(tmp_path, resume=True)
    resumed.train()
    assert resumed.start_iter == step + 1
    assert same(content(tmp_path, "model_final"), uninterrupted)
    assert not (tmp_path / "model_interrupted.pth").exists()
    assert (tmp_path / "last_checkpoint").read_text() == "model_final.pth"


def rows(folder):
    return [json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()]


@pytest.mark.parametrize(
    ("error", "every"),
    [(None, 1), (KeyboardInterrupt, 1), (OSError, 1), (OSError, 20)],
    ids=["SIGTERM", "Ctrl-C", "an error", "an error on a GPU"],
)
def test_metrics_up_to_the_last_step_are_written_however_a_run_ends(tmp_path, error, every):
    """Step 8 is within the second epoch; a GPU reads its log every 20 steps."""
    made = make(tmp_path)
    if every > 1:
        use_fused_kernels(made.optimizer)
        made._trainer.log.every = every
    run_step = made.run_step

    def ended():
        if made.iter == 9 and error:
            raise error("the end")
        run_step()

    made.run_step = ended
    if error:
        with pytest.raises(error, match="the end"):
            made.train()
    else:
        kill_at(made, 8)
        terminated(made)
    last, left = rows(tmp_path)
    assert (last["iteration"], left["iteration"]) == (STEPS - 1, 8)
    assert {"total_loss", "lr", "grad_norm_w050"} <= {*left}
    events = EventAccumulator(str(tmp_path)).Reload()
    assert [(one.step, one.value) for one in events.Scalars("total_loss")] == [
        (row["iteration"], pytest.approx(row["total_loss"])) for row in (last, left)
    ]


def test_the_metrics_of_an_epoch_whose_evaluation_is_ended_are_written(tmp_path):
    def ended(number):
        os.kill(os.getpid(), signal.SIGTERM)

    terminated(make(tmp_path, evaluate=ended))
    (row,) = rows(tmp_path)
    assert row["iteration"] == STEPS - 1
    assert "total_loss" in row


def test_an_error_before_the_first_step_is_the_one_that_is_reported(tmp_path, monkeypatch):
    def unreadable(self):
        raise InputError("1.png", "must be a readable image")

    monkeypatch.setattr("switchablecompat.engine.hooks.StepSeed.before_train", unreadable)
    with pytest.raises(InputError, match=r"^1\.png: must be a readable image$"):
        make(tmp_path).train()


def test_ended_twice_in_one_epoch(uninterrupted, tmp_path):
    for resume, step in ((False, 7), (True, 9)):
        made = make(tmp_path, resume=resume)
        kill_at(made, step)
        terminated(made)
    make(tmp_path, resume=True).train()
    assert same(content(tmp_path, "model_final"), uninterrupted)


@pytest.mark.parametrize("period", [1, 3])
def test_a_checkpoint_is_there_before_its_epoch_is_evaluated(uninterrupted, tmp_path, period):
    """With an evaluation that is ended by SIGTERM: at once, and with the epoch's checkpoint, its period or not."""

    def ended(number):
        os.kill(os.getpid(), signal.SIGTERM)
        raise AssertionError("goes on after SIGTERM")

    terminated(make(tmp_path, "SOLVER.CHECKPOINT_PERIOD", str(period), evaluate=ended))
    name = {1: "model_0000.pth", 3: "model_interrupted.pth"}[period]
    assert (tmp_path / "last_checkpoint").read_text() == name
    assert {path.name for path in tmp_path.glob("*.pth")} == {name}
    resumed = make(tmp_path, resume=True)
    resumed.train()
    assert resumed.start_iter == STEPS
    assert same(content(tmp_path, "model_final"), uninterrupted)


def test_after_an_error_in_an_evaluation_the_run_goes_on_with_the_next_epoch(uninterrupted, tmp_path):
    def failing(number):
        raise OSError("the disk with the test images is gone")

    for start, last in ((0, "model_0000.pth"), (STEPS, "model_0001.pth"), (2 * STEPS, "model_final.pth")):
        made = make(tmp_path, "SOLVER.CHECKPOINT_PERIOD", "1", resume=start > 0, evaluate=failing)
        with pytest.raises(OSError, match="is gone"):
            made.train()
        assert (made.start_iter, (tmp_path / "last_checkpoint").read_text()) == (start, last)
    assert same(content(tmp_path, "model_final"), uninterrupted)


def test_the_best_checkpoint_is_of_the_best_evaluated_epoch(tmp_path):
    """Its epoch need not have a checkpoint of its own; last_checkpoint names the newest, not the best."""
    metrics = [10.0, 30.0, 20.0, 40.0, 40.0, 5.0]
    options = ("SOLVER.MAX_EPOCH", "6", "SOLVER.CHECKPOINT_PERIOD", "2")
    seen = []

    def evaluate(number):
        last = tmp_path / "last_checkpoint"
        seen.append(last.read_text() if last.exists() else "")
        return {"metric": metrics[number]}

    make(tmp_path, *options, evaluate=evaluate).train()
    best = content(tmp_path, "model_best")
    assert (best["epoch"], best["metric"]) == (3, 40.0)
    assert same(best["model"], content(tmp_path, "model_0003")["model"])
    assert seen == ["", "model_0001.pth", "model_0001.pth", "model_0003.pth", "model_0003.pth", "model_final.pth"]
    assert (tmp_path / "last_checkpoint").read_text() == "model_final.pth"


@pytest.mark.parametrize("ended", [1, 2], ids=["within the run", "after the last epoch"])
def test_an_evaluation_that_was_ended_is_made_up_by_the_resumed_run(tmp_path, ended):
    metrics = [10.0, 50.0, 60.0]

    def evaluate(number):
        if number == ended:
            os.kill(os.getpid(), signal.SIGTERM)
        return {"metric": metrics[number]}

    terminated(make(tmp_path, evaluate=evaluate))
    resumed = make(tmp_path, resume=True, evaluate=lambda number: {"metric": metrics[ended + number]})
    assert resumed.train() == {"metric": 60.0}
    rows = map(json.loads, (tmp_path / "metrics.json").read_text().splitlines())
    evaluated = {row["iteration"]: row["metric"] for row in rows if "metric" in row}
    assert evaluated == {(epoch + 1) * STEPS - 1: metric for epoch, metric in enumerate(metrics)}
    best = content(tmp_path, "model_best")
    assert (best["epoch"], best["metric"]) == (2, 60.0)
    assert (tmp_path / "last_checkpoint").read_text() == "model_final.pth"
    again = make(tmp_path, resume=True)
    again.train()
    assert Trainer.evaluations == 1, "a finished run is evaluated again, once"


@pytest.mark.parametrize(
    ("option", "value", "epoch"),
    [("TEST.FLIP.ENABLED", "True", 2), ("DATASETS.TESTS", "('SyntheticReIDDev', 'SyntheticReID')", 2),
     ("TEST.IMS_PER_BATCH", "7", 1)],
)  # fmt: skip
def test_the_best_of_another_test_is_no_best_of_this_one(tmp_path, option, value, epoch, monkeypatch, caplog):
    generating = sys.modules[setup.__module__]  # the second set, if it checked it
    monkeypatch.setattr(generating, "check_datasets", lambda cfg, eval_only: None)
    monkeypatch.setattr(trainer, "try_evaluation", lambda *args: None)
    made = make(tmp_path, evaluate=lambda number: {"metric": [10.0, 80.0][number]})
    kill_at(made, 2 * STEPS + 1)
    terminated(made)
    make(tmp_path, option, value, resume=True, evaluate=lambda number: {"metric": 40.0}).train()
    assert content(tmp_path, "model_best")["epoch"] == epoch
    assert ("is the best by another test" in caplog.text) == (epoch == 2)


def test_the_last_epoch_is_evaluated_whatever_the_period(tmp_path):
    made = make(tmp_path, "TEST.EVAL_PERIOD", "2")
    assert made.train() == {"metric": 1.0}
    assert Trainer.evaluations == 2
    assert '"metric": 1.0' in (tmp_path / "metrics.json").read_text()


@pytest.mark.parametrize("start", ["slices", "calibrated"])
def test_only_the_config_that_says_so_calibrates_narrow_widths_at_the_start(tmp_path, monkeypatch, start):
    calls = []
    monkeypatch.setattr(hooks, "calibrate_bn", lambda model, batches, indices: calls.append((indices, len([*batches]))))
    made = make(tmp_path, "MODEL.SWITCHABLE.SUBMODEL_START", start, "TEST.PRECISE_BN.NUM_ITER", "2")
    made.start_iter = 0
    made.before_train()
    assert calls == ([([0], 2)] if start == "calibrated" else [])


def test_a_handler_of_the_user_keeps_the_signal(tmp_path):
    came = []
    former = signal.signal(signal.SIGTERM, lambda *_: came.append(1))
    try:
        made = make(tmp_path)
        kill_at(made, 1)
        made.train()
    finally:
        signal.signal(signal.SIGTERM, former)
    assert came == [1]
    assert (tmp_path / "model_final.pth").exists()


def test_the_trial_evaluation_changes_no_bit(uninterrupted, tmp_path, monkeypatch):
    rehearsed = []
    monkeypatch.setattr(trainer, "try_evaluation", lambda *_: rehearsed.append(1))
    make(tmp_path).train()
    assert rehearsed == [1]
    assert same(content(tmp_path, "model_final"), uninterrupted)
