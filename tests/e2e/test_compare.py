"""``tools/compare.py`` as a user runs it: killed on the way, continued, and skipped when done."""

import json
import os
import runpy
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
EPOCHS = 20


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A suite of one method and one seed."""
    folder = tmp_path_factory.mktemp("compare")
    opts = {
        "MODEL.SWITCHABLE.WIDTHS": [0.5, 1.0],
        "SOLVER.MAX_EPOCH": EPOCHS,
        "TEST.EVAL_PERIOD": EPOCHS,
        "TEST.PRECISE_BN.ENABLED": False,
    }
    method = {"name": "sfsc", "title": "SFSC", "kind": "switchable", "config": "configs/quick/sfsc_tiny.yml"}
    suite = {"name": "minimal", "seeds": [0], "opts": opts, "methods": [method]}
    (folder / "minimal.yml").write_text(yaml.safe_dump(suite))
    return folder


def start(folder, *options):
    environment = {**os.environ, "FASTREID_DATASETS": str(folder / "datasets"), "OMP_NUM_THREADS": "1"}
    places = ["--jobs-dir", str(folder / "jobs"), "--results-dir", str(folder / "results")]
    command = [sys.executable, str(ROOT / "tools" / "compare.py"), "--suite", str(folder / "minimal.yml"), *places]
    return subprocess.Popen(
        [*command, *options], cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def run(folder, *options):
    process = start(folder, *options)
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


def test_a_dry_run_runs_nothing(folder):
    code, out, err = run(folder, "--dry-run")
    assert code == 0, err
    assert "# sfsc seed 0 (new)" in out
    assert not (folder / "jobs").exists()


def test_a_kill_ends_the_training_too_and_the_same_command_continues(folder):
    job = folder / "jobs" / "sfsc" / "seed0"
    process = start(folder)
    deadline = time.monotonic() + 120
    while not (job / "last_checkpoint").exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 143
    assert not (job / "model_final.pth").exists()
    log = (job / "train.txt").read_text()
    time.sleep(0.5)
    assert (job / "train.txt").read_text() == log, "the training goes on"

    code, out, err = run(folder)
    assert code == 0, out + err
    assert "sfsc seed 0: continues" in out
    assert "Starting training from epoch 0" not in (job / "train.txt").read_text()[len(log) :]
    result = json.loads((folder / "results" / "minimal" / "sfsc-seed0.json").read_text())
    assert result["timing"]["runs"][0]["starts"] == 2
    assert result["grid"]["mAP"] == json.loads((job / "grid.json").read_text())["mAP"]
    assert str(folder) not in json.dumps(result)


def test_what_is_done_is_skipped_and_tables_come_from_the_results_alone(folder):
    results = folder / "results" / "minimal"
    code, out, err = run(folder)
    assert code == 0, err
    assert "1 results exist; 0 commands to run" in out
    table = (results / "table.md").read_text()
    assert "| **SFSC** (n=1) | w050 |" in table
    (folder / "jobs").rename(folder / "elsewhere")
    for path in results.glob("table.*"):
        path.unlink()
    code, _, err = run(folder, "--table-only")
    assert code == 0, err
    assert (results / "table.md").read_text() == table


@pytest.fixture
def in_process(folder, monkeypatch, capsys):
    """Run the script in this process, which is much faster; returns exit code, output and errors."""
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # the handler of the test session stays
    monkeypatch.syspath_prepend(ROOT / "tools")  # as in a process of its own

    def run(*options):
        tool = ROOT / "tools" / "compare.py"
        monkeypatch.setattr("sys.argv", [str(tool), *options])
        with pytest.raises(SystemExit) as stop:
            runpy.run_path(str(tool), run_name="__main__")
        captured = capsys.readouterr()
        return stop.value.code, captured.out, captured.err

    return run


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--suite", "none.yml"], "--suite: must be an existing yaml file, found none.yml"),
        (["--seeds", "0,x"], "--seeds: must be integers with commas between them, found '0,x'"),
        (["--seeds", "3"], "--seeds: must be among the suite's seeds [0], found 3"),
        (["--only", "none"], "method: must be one of ['sfsc'], found 'none'"),
        (["--table-only", "--results-dir", "none"], "must hold results of the suite's methods and seeds"),
        (["--none"], "command line: "),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(in_process, folder, options, message):
    code, _, err = in_process("--suite", str(folder / "minimal.yml"), *options)
    assert code == 2
    (line,) = err.splitlines()
    assert line.startswith("error: ")
    assert message in line


def test_help_has_an_example(in_process):
    code, out, _ = in_process("--help")
    assert code == 0
    assert "python tools/compare.py --suite configs/suites/quick.yml" in out
