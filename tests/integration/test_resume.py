"""A run that is killed and resumed is, bit for bit, the run that was not: weights and all states."""

import argparse
import gc
import logging

import fastreid.data.build
import numpy as np
import pytest
import torch
from fastreid.utils.env import seed_all_rng

from builders import TINY
from switchablecompat.engine import SwitchableTrainer, setup
from switchablecompat.errors import InputError
from switchablecompat.fastreid_shims import use_cpu_loader
from switchablecompat.modeling.checkpoint import RECORD_KEY

# No evaluation before the end, for speed; augmentation that draws from Python's, NumPy's and torch's
# generators; gradient vaccine and priorities, which carry states of their own from step to step.
OPTIONS = (
    "SEED", "3", "SOLVER.MAX_EPOCH", "3", "TEST.EVAL_PERIOD", "3", "MODEL.SWITCHABLE.WIDTHS", "[0.25, 0.5, 0.75, 1.0]",
    "SOLVER.AGGREGATION.NAME", "gradvac", "MODEL.LOSSES.COMPAT.PRIORITY", "0.5", "MODEL.SWITCHABLE.SANDWICH", "1",
    "MODEL.SWITCHABLE.SUBMODEL_START", "calibrated",
    "INPUT.REA.ENABLED", "True", "INPUT.CJ.ENABLED", "True", "INPUT.AUTOAUG.ENABLED", "True",
)  # fmt: skip


class Killed(BaseException):
    """Stands for a signal: no handler of the trainer may treat it as an error of its own."""


@pytest.fixture(scope="module", autouse=True)
def _data(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        root = str(tmp_path_factory.mktemp("datasets"))
        patch.setenv("FASTREID_DATASETS", root)
        patch.setattr(fastreid.data.build, "_root", root)  # read when it was imported
        yield
    use_cpu_loader(None)
    logging.getLogger("fastreid").handlers.clear()


def run(folder, *opts, resume=False, stop_at=None):
    """Train as ``train_net`` does, in this process, whose random state is different each time."""
    gc.collect()  # the loader of a run that was stopped has a process, which ends with it, and not while tests end
    seed_all_rng(int(np.random.SeedSequence().generate_state(1)[0]))
    options = [*OPTIONS, *opts, "OUTPUT_DIR", str(folder)]
    cfg = setup(argparse.Namespace(config_file=TINY, opts=options, eval_only=False, resume=resume))
    trainer = SwitchableTrainer(cfg)
    trainer.resume_or_load(resume)
    if stop_at is not None:
        before_step = trainer.before_step

        def stop_before_step():
            if trainer.iter == stop_at:
                raise Killed
            before_step()

        trainer.before_step = stop_before_step
        with pytest.raises(Killed):
            trainer.train()
    else:
        trainer.train()


def final(folder):
    content = torch.load(folder / "model_final.pth", weights_only=True)
    content[RECORD_KEY].pop("settings")  # the number of workers among them
    return content


@pytest.fixture(scope="module")
def uninterrupted(_data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    run(folder)
    return folder


def differences(one, other, path=""):
    """Where two nested states differ."""
    if isinstance(one, torch.Tensor):
        return [] if torch.equal(one, other) else [path]
    if isinstance(one, dict):
        if one.keys() != other.keys():
            return [f"{path}: keys"]
        return [where for key in one for where in differences(one[key], other[key], f"{path}/{key}")]
    if isinstance(one, list | tuple):
        if len(one) != len(other):
            return [f"{path}: length"]
        return [w for i, (a, b) in enumerate(zip(one, other, strict=True)) for w in differences(a, b, f"{path}/{i}")]
    return [] if one == other else [path]


@pytest.mark.parametrize(("workers", "workers_then", "stop_at"), [(0, 0, 8), (1, 1, 6)])
def test_resumed_is_uninterrupted(uninterrupted, tmp_path, workers, workers_then, stop_at):
    """Killed within the second epoch, or right before it; the number of loader workers does not matter either."""
    run(tmp_path, "DATALOADER.NUM_WORKERS", str(workers), stop_at=stop_at)
    assert (tmp_path / "last_checkpoint").read_text() == "model_0000.pth"
    run(tmp_path, "DATALOADER.NUM_WORKERS", str(workers_then), "SEED", "-1", resume=True)
    assert differences(final(uninterrupted), final(tmp_path)) == []


def test_another_seed_is_another_run_and_cannot_be_resumed(uninterrupted):
    with pytest.raises(InputError, match=r"SEED: must be 3 to resume .*, or -1, found 4"):
        run(uninterrupted, "SEED", "4", resume=True)
