"""The clock of a session on a GPU: parts that end, take too long, fail, and those for which no time is left."""

import json
import subprocess
import sys
import tempfile

import pytest

from gpu import __main__ as session
from gpu import wheels
from gpu.__main__ import Session, parse_arguments

WRITE = "import sys, pathlib; o = sys.argv[sys.argv.index('--output') + 1]; pathlib.Path(o).write_text('{}'); "
PROGRAMS = {
    "machine": 'print(\'{"hardware": {"gpu": "none"}, "versions": {"torch": "2"}}\')',
    "tests": WRITE,
    "step": WRITE + "import time; print('half done', flush=True); time.sleep(60)",
    "grid": "sys = None; raise SystemExit('no such thing')",
    "finetune": WRITE,
    "persons": "import time; time.sleep(60)",
}


@pytest.fixture
def run(tmp_path, monkeypatch):
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))
    monkeypatch.setattr(session, "GRACE", 1.0)
    monkeypatch.setattr(wheels, "install_missing", lambda folder, target: [])
    monkeypatch.setattr(Session, "command", lambda self, name, *o: [sys.executable, "-c", PROGRAMS[name], *map(str, o)])

    def run(*arguments):
        code = Session(parse_arguments(["--output", str(tmp_path), *arguments])).run_all()
        assert not [*(tmp_path / "scratch").iterdir()]
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


EARLIER = {
    "format": 1, "budget_seconds": 9.0, "dry_run": False, "started": "2026-01-02 03:04:05",
    "parts": {"step": {"status": "done", "seconds": 3.0, "file": "step.json"},
              "grid": {"status": "done", "seconds": 2.0, "file": "grid.json"}},
    "hardware": {"gpu": "H100"}, "versions": {"torch": "1"}, "finished": "2026-01-02 03:05:05",
}  # fmt: skip


@pytest.fixture
def earlier(tmp_path):
    """The results of an earlier session; returns their contents by name."""
    texts = {"manifest.json": json.dumps(EARLIER), "step.json": '{"rows": []}', "grid.json": "{}", "log.txt": "== "}
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    return texts


def contents(folder):
    return {path.name: path.read_text() for path in folder.iterdir() if path.is_file()}


@pytest.mark.parametrize("lacking", ["package", "device"])
def test_without_packages_or_a_gpu_earlier_results_stay(run, earlier, tmp_path, monkeypatch, capsys, lacking):
    if lacking == "package":
        monkeypatch.setattr(wheels, "install_missing", lambda folder, target: ["scipy"])
    else:
        monkeypatch.setitem(PROGRAMS, "machine", "raise SystemExit('error: there is no CUDA device')")
    code, _ = run()
    assert code == (2 if lacking == "package" else 1)
    assert capsys.readouterr().err.startswith("error: ")
    assert contents(tmp_path) == earlier


def test_nothing_is_made_where_the_machine_is_refused(tmp_path, run, monkeypatch):
    monkeypatch.setitem(PROGRAMS, "machine", "raise SystemExit('error: there is no CUDA device')")
    assert Session(parse_arguments(["--output", str(tmp_path / "new")])).run_all() == 1
    assert not (tmp_path / "new").exists()
    assert not [*(tmp_path / "scratch").iterdir()]


def test_parts_that_do_not_run_keep_results_and_entries(run, earlier, tmp_path):
    code, manifest = run("--budget", "30", "--parts", "tests,grid")
    assert code == 1  # of these parts: the grid fails
    assert manifest["parts"]["grid"]["status"] == "failed"
    assert not (tmp_path / "grid.json").exists()
    kept = {key: EARLIER[key] for key in ("budget_seconds", "dry_run", "started", "hardware", "versions")}
    assert manifest["parts"]["step"] == {"session": kept, **EARLIER["parts"]["step"]}
    assert (tmp_path / "step.json").read_text() == earlier["step.json"]
    code, manifest = run("--budget", "30", "--parts", "tests")
    assert code == 0  # what failed before does not count
    assert manifest["parts"]["step"]["session"]["started"] == EARLIER["started"]
    assert manifest["parts"]["grid"]["session"]["hardware"] == {"gpu": "none"}


def test_a_damaged_manifest_is_refused_and_stays(run, tmp_path):
    (tmp_path / "manifest.json").write_text("[]")
    with pytest.raises(SystemExit, match="must be the manifest of an earlier session"):
        run("--parts", "grid")
    assert (tmp_path / "manifest.json").read_text() == "[]"
    assert not [*(tmp_path / "scratch").iterdir()]


def test_a_dry_run_has_a_folder_of_its_own():
    assert parse_arguments([]).output == "results/gpu"
    assert parse_arguments(["--dry-run"]).output == "outputs/gpu_dry_run"
    assert parse_arguments(["--dry-run", "--output", "a"]).output == "a"


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
