"""Several runs at once, and several schedulers on one folder; the trainings are fabricated, the processes are real."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from builders import CROSS_ENTROPY, TINY
from switchablecompat.comparison.execute import Estimate, Runner
from switchablecompat.comparison.runs import plan
from switchablecompat.comparison.workers import share

ROOT = Path(__file__).parents[3]
SUITE = {
    "name": "toy",
    "seeds": [0, 1],
    "opts": {"MODEL.SWITCHABLE.WIDTHS": [0.5, 1.0], **CROSS_ENTROPY},
    "methods": [
        {"name": "ours", "kind": "switchable", "config": TINY},
        {"name": "unified", "kind": "separate", "config": TINY},
        {"name": "bct", "kind": "separate", "config": TINY, "reference": "unified",
         "opts": {"MODEL.LOSSES.NAME": "('CompatibleLoss', 'InfluenceLoss')"}},
    ],
}  # fmt: skip
# A training that takes a moment, notes when, and leaves on SIGTERM what the real one leaves.
TRAIN = """
import os, signal, sys, time, pathlib
options = dict(zip(sys.argv[-2::-2], sys.argv[:0:-2]))
folder, diary = pathlib.Path(options["OUTPUT_DIR"]), pathlib.Path(os.environ["DIARY"])
def note(what):
    with diary.open("a") as file:
        file.write(f"{what} {folder.relative_to(diary.parent / 'jobs')} {time.monotonic()} {os.getpid()} "
                   f"{os.environ.get('OMP_NUM_THREADS')}\\n")
def leave(*_):
    (folder / "last_checkpoint").write_text("model_interrupted.pth")
    note("terminated")
    os._exit(143)
signal.signal(signal.SIGTERM, leave)
note("resumed" if "--resume" in sys.argv else "started")
parent, end = int(os.environ["SWITCHABLECOMPAT_PARENT"]), time.monotonic() + float(os.environ["SECONDS"])
while time.monotonic() < end:
    time.sleep(0.02)
    if os.getppid() != parent:
        leave()
note("ended")
"""


@pytest.fixture
def place(tmp_path, tools, monkeypatch):
    """A folder with the suite and fabricated tools; each training takes as long as SECONDS says."""
    fast = (tools / "train.py").read_text()
    (tools / "train.py").write_text(TRAIN + fast)
    (tmp_path / "suite.json").write_text(json.dumps(SUITE))
    monkeypatch.setenv("DIARY", str(tmp_path / "diary.txt"))
    monkeypatch.setenv("SECONDS", "0.5")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    return tmp_path


SCHEDULER = """
import json, os, signal, sys, time
from pathlib import Path
from switchablecompat.comparison import claims, execute
from switchablecompat.comparison.runs import plan
from switchablecompat.comparison.suite import parse_suite
execute.OTHERS = 0.2
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
place = Path(sys.argv[1])
suite = parse_suite(json.loads((place / "suite.json").read_text()), "suite")
jobs = plan(suite, place / "jobs", [0, 1])
say = lambda line: print(line, flush=True)
program = [sys.executable, str(place / "tools")]
runner = execute.Runner(suite, jobs, place / "results", place / "jobs", say, int(sys.argv[2]), program)
(place / f"ready{os.getpid()}").touch()
while len(list(place.glob("ready*"))) < int(sys.argv[3]):  # for those that begin together
    time.sleep(0.01)
sys.exit(1 if runner.run() else 0)
"""


def scheduler(place, at_once=1, together=1):
    """A scheduler in a process of its own, which waits until there are as many as begin ``together``."""
    command = [sys.executable, "-c", SCHEDULER, str(place), str(at_once), str(together)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def diary(place):
    """What the trainings noted: what, which, when, process, threads."""
    path = place / "diary.txt"
    lines = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
    return [(what, run, float(when), int(pid), threads) for what, run, when, pid, threads in lines]


def wait_for(condition, seconds=200):  # a busy machine takes a minute to load torch
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def spans(place):
    """Begin and end of each training."""
    begin = {run: when for what, run, when, *_ in diary(place) if what in ("started", "resumed")}
    return {run: (begin[run], when) for what, run, when, *_ in diary(place) if what == "ended"}


def most_at_once(place):
    ends = sorted((moment, step) for span in spans(place).values() for moment, step in zip(span, (1, -1), strict=True))
    count = [0]
    for _, step in ends:
        count.append(count[-1] + step)
    return max(count)


RUNS = [f"{method}/seed{seed}{width}" for seed in (0, 1)
        for method, width in (("ours", ""), ("unified", "/w050"), ("unified", "/w100"), ("bct", "/w050"))]  # fmt: skip


@pytest.mark.timeout(240)
def test_two_at_once_each_with_its_threads_and_what_is_needed_first(place, suite, program):
    lines = []
    jobs = plan(suite, place / "jobs", [0, 1])
    runner = Runner(suite, jobs, place / "results", place / "jobs", lines.append, at_once=2, program=program)
    assert runner.run() == []
    assert sorted(spans(place)) == sorted(RUNS)
    assert most_at_once(place) == 2
    cores = len(os.sched_getaffinity(0))
    assert {threads for *_, threads in diary(place)} == {str(max(1, cores // 2))}
    for seed in (0, 1):  # the reference has ended before what needs it begins
        assert spans(place)[f"unified/seed{seed}/w100"][1] < spans(place)[f"bct/seed{seed}/w050"][0]
    assert len(list((place / "results").glob("*.json"))) == 6
    assert not list((place / "jobs" / "claims").glob("*.json"))
    assert any(" left" in line for line in lines)


@pytest.mark.timeout(240)
def test_two_schedulers_share_a_folder_and_both_end_with_everything(place):
    both = [scheduler(place, together=2) for _ in range(2)]
    out = [process.communicate(timeout=220) for process in both]
    assert [process.returncode for process in both] == [0, 0], out
    started = [run for what, run, *_ in diary(place) if what in ("started", "resumed")]
    assert sorted(started) == sorted(RUNS), "each run once"
    assert most_at_once(place) == 2
    assert all(": starts" in text for text, _ in out)
    assert any("at work elsewhere" in text for text, _ in out)
    assert len(list((place / "results").glob("*.json"))) == 6


@pytest.mark.timeout(240)
def test_what_a_killed_scheduler_had_is_taken_over_when_its_training_is_gone(place, monkeypatch):
    monkeypatch.setenv("SECONDS", "60")
    killed = scheduler(place)
    wait_for(lambda: diary(place))
    killed.kill()
    killed.communicate()
    (_, run, _, training, _) = diary(place)[0]
    monkeypatch.setenv("SECONDS", "0.1")
    heir = scheduler(place, 2)
    out, err = heir.communicate(timeout=220)
    assert heir.returncode == 0, out + err
    of_run = [(what, pid) for what, name, _, pid, _ in diary(place) if name == run]
    assert [what for what, _ in of_run] == ["started", "terminated", "resumed", "ended"]
    assert of_run[1][1] == training


@pytest.mark.timeout(240)
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, -2)])
def test_a_signal_ends_all_trainings_with_their_checkpoint(place, monkeypatch, number, code):
    """Python's own end by Ctrl-C is -2; ``compare.py`` makes it 130."""
    monkeypatch.setenv("SECONDS", "60")
    process = scheduler(place, 2)
    wait_for(lambda: len(diary(place)) == 2)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == code, out + err
    assert [what for what, *_ in diary(place)] == ["started", "started", "terminated", "terminated"]
    assert not list((place / "jobs" / "claims").glob("*.json"))
    assert "FAILED" not in out


@pytest.mark.parametrize(
    ("slot", "jobs", "environment", "cores", "gpus", "expected"),
    [
        (0, 1, {}, 8, 4, {}),
        (1, 2, {}, 8, 0, {"OMP_NUM_THREADS": "4"}),
        (2, 3, {}, 2, 0, {"OMP_NUM_THREADS": "1"}),
        (1, 2, {"OMP_NUM_THREADS": "3"}, 8, 0, {}),
        (3, 4, {}, 16, 2, {"OMP_NUM_THREADS": "4", "CUDA_VISIBLE_DEVICES": "1"}),
        (1, 2, {"CUDA_VISIBLE_DEVICES": "5, GPU-ab"}, 2, 2, {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "GPU-ab"}),
        (2, 3, {"CUDA_VISIBLE_DEVICES": "5,7", "OMP_NUM_THREADS": "2"}, 2, 2, {"CUDA_VISIBLE_DEVICES": "5"}),
        (0, 2, {"CUDA_VISIBLE_DEVICES": ""}, 4, 0, {"OMP_NUM_THREADS": "2"}),
    ],
)
def test_shares(slot, jobs, environment, cores, gpus, expected):
    assert share(slot, jobs, environment, cores, gpus) == expected


def test_the_time_left_of_several_at_once():
    estimate = Estimate()
    estimate.add("a", 10.0)
    estimate.add("b", 30.0)
    # at work: an a for 4 s, a b for longer than ever; waiting: two b
    assert estimate.left(["a", "b", "b", "b"], [4.0, 99.0], 2) == (6 + 0 + 30 + 30) / 2
    assert estimate.left(["b"], [], 2) == 30
