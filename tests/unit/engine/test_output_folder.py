"""One run at a time in a folder, and what an earlier one left."""

import os
import signal
import subprocess
import sys

import pytest

from switchablecompat.engine.output_folder import lock, set_aside, set_grid_aside, unlock
from switchablecompat.errors import InputError
from switchablecompat.evaluation.grid import CompatibilityGrid
from switchablecompat.evaluation.grid_files import write_grid

HOLD = """
import os, sys, time
from switchablecompat.engine.output_folder import lock
lock(sys.argv[1])
child = os.fork()  # as a loader's worker: it must not keep the lock for its parent
if child == 0:
    time.sleep(60)
    os._exit(0)
print(os.getpid(), child, flush=True)
time.sleep(60)
"""


def start(folder):
    """A process that holds the folder; with the number of its child."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, text=True)
    return process, int(process.stdout.readline().split()[1])


def test_a_second_process_is_refused_until_the_first_ends_even_by_a_kill(tmp_path):
    process, child = start(tmp_path)
    try:
        with pytest.raises(InputError) as error:
            lock(str(tmp_path))
        assert str(error.value) == (
            "OUTPUT_DIR: must be a folder in which nothing else runs; choose another, or wait, found process "
            f"{process.pid} on {os.uname().nodename} in {tmp_path}"
        )
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=20)
        os.kill(child, 0)  # is alive
        lock(str(tmp_path))
        other, other_child = start_refused(tmp_path)
        assert other != 0
        assert other_child == ""
    finally:
        os.kill(child, signal.SIGKILL)
        process.kill()
        process.communicate()
        unlock(str(tmp_path))


def start_refused(folder):
    done = subprocess.run([sys.executable, "-c", HOLD, str(folder)], capture_output=True, text=True, timeout=60)
    assert "must be a folder in which nothing else runs" in done.stderr
    return done.returncode, done.stdout


def test_the_same_process_may_go_on_and_a_folder_is_one_by_any_name(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "run")
    lock(str(tmp_path / "run"))
    lock(str(tmp_path / "link"))
    assert start_refused(tmp_path / "link")[0] != 0
    unlock(str(tmp_path / "link"))
    process, child = start(tmp_path / "run")
    os.kill(child, signal.SIGKILL)
    process.kill()
    process.communicate()


def test_an_earlier_run_is_set_aside_whole_under_the_next_number(tmp_path):
    names = ["last_checkpoint", "model_0003.pth", "model_final.pth", "metrics.json", "grid.json", "grid.png", "log.txt",
             "events.out.tfevents.1.host.1.0"]  # fmt: skip
    others = ["run.json", "train.txt", ".lock", "notes.md"]
    for number in (1, 2):
        for name in (*names, *others, "config.yaml"):
            (tmp_path / name).write_text(f"{name} {number}")
        (tmp_path / "gallery").mkdir(exist_ok=True)
        assert set_aside(str(tmp_path)) == tmp_path / f"earlier-{number}"
        left = {path.name for path in tmp_path.iterdir()}
        assert left == {*others, "config.yaml", "gallery", *(f"earlier-{n}" for n in range(1, number + 1))}
        kept = {path.name: path.read_text() for path in (tmp_path / f"earlier-{number}").iterdir()}
        assert kept == {name: f"{name} {number}" for name in (*names, "config.yaml")}


@pytest.mark.parametrize("sign", ["last_checkpoint", "model_0000.pth", "model_final.pth", "metrics.json"])
def test_each_sign_of_a_run_is_one(sign, tmp_path):
    (tmp_path / sign).touch()
    assert set_aside(str(tmp_path)) is not None


def test_a_folder_without_a_run_is_left_alone(tmp_path):
    for name in ("config.yaml", "log.txt", "run.json"):
        (tmp_path / name).touch()
    assert set_aside(str(tmp_path)) is None
    assert len(list(tmp_path.iterdir())) == 3


def test_what_the_new_run_reads_is_not_moved_away_from_it(tmp_path):
    (tmp_path / "model_final.pth").touch()
    (tmp_path / "link.pth").symlink_to(tmp_path / "model_final.pth")
    for name in ("model_final.pth", "link.pth"):
        with pytest.raises(InputError, match="OUTPUT_DIR: must not be the folder of a file that this run reads"):
            set_aside(str(tmp_path), ["", "elsewhere.pth", str(tmp_path / name)])
    assert (tmp_path / "model_final.pth").exists()


def test_the_grid_of_another_model_or_test_is_set_aside(tmp_path, caplog):
    def grid(family, **others):
        return CompatibilityGrid((1.0,), {"mAP": [[50.0]]}, "toy", {"family": family, "versions": {}, **others})

    write_grid(grid("a"), tmp_path)
    for same in (grid("a"), grid("a", versions={"torch": "3"}, hardware="another machine")):
        set_grid_aside(same, str(tmp_path), "grid")
    assert not caplog.records
    for number, other in enumerate((grid("b"), grid("b", flip=True)), start=1):
        before = (tmp_path / "grid.json").read_text()
        set_grid_aside(other, str(tmp_path), "grid")
        kept = tmp_path / f"earlier-{number}"
        assert {path.name for path in kept.iterdir()} == {f"grid.{kind}" for kind in ("json", "csv", "md", "png")}
        assert (kept / "grid.json").read_text() == before
        assert str(kept) in caplog.messages[-1]
        write_grid(other, tmp_path)
