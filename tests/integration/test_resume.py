"""A run that is killed and resumed is, bit for bit, the run that was not: weights and all states."""

import argparse
import gc
import json
import logging
import math
import shutil
import sys
from pathlib import Path

import fastreid.data.build
import numpy as np
import pytest
import torch
from fastreid.utils.env import seed_all_rng

from builders import TINY
from switchablecompat.engine import SwitchableTrainer, setup
from switchablecompat.errors import InputError
from switchablecompat.fastreid_shims.loading import use_cpu_loader
from switchablecompat.modeling.checkpoint import RECORD_KEY

# No evaluation before the end, for speed; augmentation that draws from Python's, NumPy's and torch's
# generators; gradient vaccine and priorities, which carry states of their own from step to step.
OPTIONS = (
    "SEED", "3", "SOLVER.MAX_EPOCH", "3", "TEST.EVAL_PERIOD", "3", "MODEL.SWITCHABLE.WIDTHS", "[0.25, 0.5, 0.75, 1.0]",
    "SOLVER.AGGREGATION.NAME", "gradvac", "SOLVER.AGGREGATION.GRANULARITY", "layer",
    "MODEL.LOSSES.COMPAT.PRIORITY", "0.5", "MODEL.SWITCHABLE.SANDWICH", "1",
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


def test_what_projection_and_certainty_remember_goes_on(tmp_path):
    """Running means of Gram matrices and of what each sub-model knows of each class."""
    opts = (
        "SOLVER.AGGREGATION.NAME", "projection", "SOLVER.AGGREGATION.MEMORY", "0.9",
        "MODEL.SWITCHABLE.CLASSIFIER_GRAD", "certain", "MODEL.LOSSES.COMPAT.CERTAINTY_POWER", "0.5",
    )  # fmt: skip
    run(tmp_path / "whole", *opts)
    run(tmp_path / "parts", *opts, stop_at=8)
    run(tmp_path / "parts", *opts, resume=True)
    whole, parts = final(tmp_path / "whole"), final(tmp_path / "parts")
    assert differences(whole, parts) == []
    assert whole["certainty"]["probabilities"].std() > 0
    assert whole["aggregation"]["state"]["mean"].any()


def test_another_seed_is_another_run_and_cannot_be_resumed(uninterrupted):
    with pytest.raises(InputError, match=r"SEED: must be 3 to resume .*, or -1, found 4"):
        run(uninterrupted, "SEED", "4", resume=True)


# A rate that does not depend on the length of the training; BN statistics are calibrated at both ends.
CONSTANT = ("SOLVER.SCHED", "MultiStepLR", "SOLVER.STEPS", "[90]")


def test_two_epochs_more_at_a_constant_rate_are_an_uninterrupted_longer_run(tmp_path):
    longer = ("SOLVER.MAX_EPOCH", "3", *CONSTANT)
    run(tmp_path / "whole", *longer)
    run(tmp_path / "parts", "SOLVER.MAX_EPOCH", "1", "TEST.EVAL_PERIOD", "1", *CONSTANT)
    assert (tmp_path / "parts" / "last_checkpoint").read_text() == "model_final.pth"
    run(tmp_path / "parts", *longer, resume=True)
    assert differences(final(tmp_path / "whole"), final(tmp_path / "parts")) == []
    assert not (tmp_path / "parts" / "earlier-1").exists()


def test_two_epochs_more_of_a_cosine_follow_the_longer_one_from_there(tmp_path, caplog):
    run(tmp_path, "SOLVER.MAX_EPOCH", "2", "TEST.EVAL_PERIOD", "2", "SOLVER.WARMUP_ITERS", "0")
    logging.getLogger("fastreid").propagate = True
    run(tmp_path, "SOLVER.MAX_EPOCH", "4", "TEST.EVAL_PERIOD", "4", "SOLVER.WARMUP_ITERS", "0", resume=True)
    logging.getLogger("fastreid").propagate = False
    said = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert [line for line in said if line.startswith("SOLVER.SCHED CosineAnnealingLR depends on SOLVER.MAX_EPOCH")]
    rows = [json.loads(line) for line in (tmp_path / "metrics.json").read_text().splitlines()]
    rates = {row["iteration"]: row["lr"] for row in rows if "lr" in row}
    for epoch in (2, 3):
        expected = 0.0005 + 0.0995 * (1 + math.cos(math.pi * epoch / 4)) / 2
        assert rates[6 * epoch + 5] == pytest.approx(expected), "no rise back to 0.1"


def test_a_new_run_in_a_used_folder_keeps_the_earlier_one_apart(uninterrupted, tmp_path):
    shutil.copytree(uninterrupted, tmp_path / "run")
    before = (tmp_path / "run" / "model_final.pth").read_bytes()
    lines = len((tmp_path / "run" / "metrics.json").read_text().splitlines())
    run(tmp_path / "run", "SEED", "4", stop_at=2)
    assert not list((tmp_path / "run").glob("model_*.pth")), "nothing passes for the new run's"
    assert not (tmp_path / "run" / "last_checkpoint").exists()
    assert not (tmp_path / "run" / "grid.json").exists()
    assert (tmp_path / "run" / "earlier-1" / "model_final.pth").read_bytes() == before
    assert len((tmp_path / "run" / "earlier-1" / "metrics.json").read_text().splitlines()) == lines
    run(tmp_path / "run" / "earlier-1", resume=True)  # is whole: only evaluated again


def test_a_finished_run_that_is_evaluated_by_another_test_keeps_its_grid(uninterrupted, tmp_path):
    shutil.copytree(uninterrupted, tmp_path / "run")
    before = (tmp_path / "run" / "grid.json").read_bytes()
    run(tmp_path / "run", resume=True)
    assert not (tmp_path / "run" / "earlier-1").exists()
    run(tmp_path / "run", "TEST.FLIP.ENABLED", "True", resume=True)
    assert json.loads((tmp_path / "run" / "grid.json").read_text())["flip"] is True
    kept = json.loads((tmp_path / "run" / "earlier-1" / "grid.json").read_text())
    assert {key: kept[key] for key in ("flip", "mAP", "family")} == {
        key: json.loads(before)[key] for key in ("flip", "mAP", "family")
    }


def test_a_start_that_the_data_check_rejects_leaves_the_earlier_run_where_it_is(uninterrupted, tmp_path):
    shutil.copytree(uninterrupted, tmp_path / "run")
    before = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir() if path.is_file()}
    (tmp_path / "empty.csv").write_text("path,pid,camid,split\n")
    with pytest.raises(InputError, match="empty.csv"):
        run(tmp_path / "run", "DATASETS.NAMES", "('ManifestReID',)", "DATASETS.MANIFEST", str(tmp_path / "empty.csv"))
    assert {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir() if path.is_file()} == before
    assert not (tmp_path / "run" / "earlier-1").exists()


def test_a_resume_without_a_checkpoint_says_so_and_starts(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(sys.modules[setup.__module__], "logger", logging.getLogger("setup"))
    run(tmp_path, resume=True, stop_at=1)
    said = [record.getMessage() for record in caplog.records]
    assert f"{tmp_path} has no checkpoint to resume from (last_checkpoint): a new run starts" in said


def test_a_resume_needs_no_config_file(uninterrupted, tmp_path):
    run(tmp_path, stop_at=8)
    resume_without_config(tmp_path)
    assert differences(final(uninterrupted), final(tmp_path)) == []


def resume_without_config(folder):
    args = argparse.Namespace(config_file="", opts=["OUTPUT_DIR", str(folder)], eval_only=False, resume=True)
    trainer = SwitchableTrainer(setup(args))
    trainer.resume_or_load(True)
    trainer.train()


def test_refused_is_before_anything_is_loaded_or_written(uninterrupted, monkeypatch):
    before = {path.name: path.stat().st_mtime_ns for path in uninterrupted.iterdir() if path.name != ".lock"}
    monkeypatch.setattr(SwitchableTrainer, "build_model", None)
    with pytest.raises(InputError, match=r"SOLVER.OPT: must be 'SGD' to resume .*model_final.pth, found 'Adam'"):
        run(uninterrupted, "SOLVER.OPT", "Adam", resume=True)
    assert {path.name: path.stat().st_mtime_ns for path in uninterrupted.iterdir() if path.name != ".lock"} == before


def test_identities_that_were_renamed_are_refused(uninterrupted, tmp_path):
    """A manifest whose people got other names, with as many as before: every class vector would be another one's."""
    paths = sorted(map(str, Path(fastreid.data.build._root).rglob("*.jpg")))[:16]
    data = ("DATASETS.NAMES", "('ManifestReID',)", "DATASETS.TESTS", "('ManifestReID',)", "DATASETS.MANIFEST",
            str(tmp_path / "m.csv"), "TEST.PRECISE_BN.ENABLED", "False", "SOLVER.IMS_PER_BATCH", "8",
            "SOLVER.WARMUP_ITERS", "0", "DATALOADER.SAMPLER_TRAIN", "TrainingSampler",
            "SOLVER.MAX_EPOCH", "3")  # fmt: skip

    def write(names):
        rows = [f"{path},{names[n % 4]},{n // 4},train" for n, path in enumerate(paths)]
        rows += [f"{paths[0]},9,0,query", f"{paths[1]},9,1,gallery", f"{paths[2]},8,1,gallery"]
        (tmp_path / "m.csv").write_text("\n".join(["path,pid,camid,split", *rows]) + "\n")

    write([1, 2, 3, 4])
    run(tmp_path / "run", *data, stop_at=3)
    assert (tmp_path / "run" / "last_checkpoint").exists()
    write([5, 2, 3, 4])  # the first has become the last
    with pytest.raises(InputError, match=r"^DATASETS.NAMES: must have the run's identities in the same order"):
        run(tmp_path / "run", *data, resume=True)
    write([1, 2, 3, 4])
    run(tmp_path / "run", *data, resume=True)
