"""``tools/train_net.py`` asked to end, as ``kill``, ``timeout``, batch systems and Ctrl-C do it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from builders import TINY, train_net

ROOT = Path(__file__).parents[2]
LONG = ("SEED", 1, "SOLVER.MAX_EPOCH", 500, "SOLVER.CHECKPOINT_PERIOD", 500, "TEST.EVAL_PERIOD", 500,
        "MODEL.SWITCHABLE.WIDTHS", "[0.5, 1.0]", "TEST.PRECISE_BN.ENABLED", False)  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return tmp_path_factory.mktemp("datasets")


def start(folder, data, *options):
    """A training in a session of its own, seen at its first steps."""
    environment = {**os.environ, "FASTREID_DATASETS": str(data), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(ROOT / "tools" / "train_net.py"), "--config-file", TINY, *options, *LONG]
    command = [*map(str, command), "OUTPUT_DIR", str(folder)]
    with (folder / "output.txt").open("w") as file:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=file, stderr=subprocess.PIPE, text=True, start_new_session=True
        )
    end = time.monotonic() + 120
    while "epoch 2/" not in (folder / "output.txt").read_text():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.02)
    return process


def session(leader):
    """Processes of a session that are still there."""
    found = subprocess.run(["ps", "-o", "pid=,stat=", "-s", str(leader)], capture_output=True, text=True).stdout
    return [line.split()[0] for line in found.splitlines() if not line.split()[1].startswith("Z")]


def gone(leader, seconds=20):
    """Whether all processes of a session end by themselves."""
    end = time.monotonic() + seconds
    while session(leader) and time.monotonic() < end:
        time.sleep(0.1)
    return not session(leader)


@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    ("options", "group"),
    [((), False), (("DATALOADER.NUM_WORKERS", 2), True), (("--num-gpus", 2), False), (("--num-gpus", 2), True)],
    ids=["one process", "all of a group, with loaders", "the launch of two processes", "all of a launch"],
)
def test_sigterm_writes_the_last_step_and_exits_with_143(data, tmp_path, options, group):
    flags = options if "--num-gpus" in options else ()
    process = start(tmp_path, data, *flags, *(() if flags else options))
    (os.killpg if group else os.kill)(process.pid, signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 143, err
    assert "Traceback" not in err
    assert gone(process.pid)
    assert (tmp_path / "last_checkpoint").read_text() == "model_interrupted.pth"
    assert "--resume continues from" in (tmp_path / "output.txt").read_text()
    left = torch.load(tmp_path / "model_interrupted.pth", weights_only=True)
    steps = (left["epoch"] + 1) * 6 + left["progress"]["steps"]
    assert steps >= 12, "the first two epochs had been seen"


@pytest.mark.timeout(240)
def test_ctrl_c_is_one_line_and_130(data, tmp_path):
    process = start(tmp_path, data)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert err.splitlines()[-1] == "interrupted; --resume continues from the last checkpoint"
    assert "Traceback" not in err
    assert gone(process.pid)


@pytest.mark.timeout(240)
def test_a_launch_that_is_killed_leaves_nobody_behind(data, tmp_path):
    process = start(tmp_path, data, "--num-gpus", 2)
    assert len(session(process.pid)) >= 3
    process.kill()
    process.communicate()
    assert gone(process.pid)


@pytest.mark.timeout(240)
def test_a_training_ends_with_the_scheduler_that_started_it(data, tmp_path, monkeypatch):
    """``compare.py`` says who it is; a killed one cannot end what it has started."""
    monkeypatch.setenv("SWITCHABLECOMPAT_PARENT", str(os.getpid() + 1 if os.getpid() == 1 else 1))
    folder = tmp_path / "run"
    folder.mkdir()
    result = train_net("--config-file", TINY, *LONG, "OUTPUT_DIR", folder, data=data)
    assert result.returncode in (143, -signal.SIGTERM)
    assert not (folder / "model_final.pth").exists()
