"""The clock of a session on a GPU: parts that end, take too long, fail, and those for which no time is left."""

import json
import subprocess
import sys

import pytest

from gpu import __main__ as session
from gpu import wheels
from gpu.__main__ import Session, parse_arguments

WRITE = "import sys, pathlib; o = sys.argv[sys.argv.index('--output') + 1]; pathlib.Path(o).write_text('{}'); "
PROGRAMS = {
    "machine": 'print(\'{"hardware": {"gpu": "none"}, "versions": {}}\')',
    "tests": WRITE,
    "step": WRITE + "import time; print('half done', flush=True); time.sleep(60)",
    "grid": "sys = None; raise SystemExit('no such thing')",
    "finetune": WRITE,
    "persons": "import time; time.sleep(60)",
}


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setattr(session, "GRACE", 1.0)
    monkeypatch.setattr(wheels, "install_missing", lambda folder, target: [])
    monkeypatch.setattr(Session, "command", lambda self, name, *o: [sys.executable, "-c", PROGRAMS[name], *map(str, o)])

    def run(*arguments):
        code = Session(parse_arguments(["--output", str(tmp_path), *arguments])).run_all()
        return code, json.loads((tmp_path / "manifest.json").read_text())

    return run


def test_a_part_that_takes_too_long_is_cut_and_the_others_run_all_the_same(run, tmp_path):
    code, manifest = run("--budget", "40")
    assert code == 1
    assert {name: part["status"] for name, part in manifest["parts"].items()} == {
        "tests": "done", "step": "cut", "grid": "failed", "finetune": "done"
    }  # fmt: skip
    assert manifest["parts"]["step"]["file"] == "step.json", "what it had written counts"
    assert manifest["parts"]["step"]["last_lines"] == ["half done"]
    assert manifest["parts"]["grid"]["last_lines"] == ["no such thing"]
    assert "file" not in manifest["parts"]["grid"]
    assert manifest["hardware"] == {"gpu": "none"}
    assert manifest["seconds"] < 60
    text = (tmp_path / "log.txt").read_text()
    assert "== step.log\nhalf done\n" in text


def test_parts_without_time_are_skipped_and_the_manifest_says_so(run):
    code, manifest = run("--budget", "1.5", "--parts", "tests,finetune")
    assert code == 1
    assert {part["status"] for part in manifest["parts"].values()} == {"skipped"}


def test_files_of_an_earlier_session_do_not_pass_for_new_ones(run, tmp_path):
    (tmp_path / "grid.json").write_text("{}")
    _, manifest = run("--budget", "30", "--parts", "grid")
    assert not (tmp_path / "grid.json").exists()
    assert manifest["parts"]["grid"]["status"] == "failed"


@pytest.mark.parametrize(
    ("arguments", "message"), [(("--parts", "tests,speed"), "found speed"), (("--budget", "0"), "must be positive")]
)
def test_bad_usage_is_refused(arguments, message, capsys):
    with pytest.raises(SystemExit) as stop:
        parse_arguments([*arguments])
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_the_session_itself_needs_nothing_but_python():
    program = (
        "import sys, gpu.__main__, gpu.wheels; print([n for n in ('torch', 'numpy', 'fastreid') if n in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]", found.stderr
