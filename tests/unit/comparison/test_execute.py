"""Running a suite with fabricated tools: order, skipping, resuming, failures, and what the result files say."""

import hashlib
import json
import os
from pathlib import Path

import pytest

from switchablecompat import provenance
from switchablecompat.comparison import runs
from switchablecompat.comparison.execute import Estimate, Runner, format_seconds
from switchablecompat.comparison.results import load_results, portable, read_result
from switchablecompat.comparison.runs import code_digest, plan
from switchablecompat.comparison.table import Comparison
from switchablecompat.errors import InputError


@pytest.fixture
def make_runner(suite, program, tmp_path):
    lines = []

    def make(only=(), seeds=(0,)):
        jobs = plan(suite, tmp_path / "jobs", seeds, only)
        runner = Runner(suite, jobs, tmp_path / "results", tmp_path / "jobs", lines.append, program=program)
        runner.lines = lines
        return runner

    return make


def test_everything_is_run_once_in_order_and_then_skipped(make_runner, suite, tmp_path):
    runner = make_runner()
    assert runner.run() == []
    done = [line.split("] ")[1].split(":")[0] for line in runner.lines if ": done in " in line]
    assert done == ["ours seed 0", "ours seed 0 grid", "unified seed 0 w050", "unified seed 0 w100",
                    "unified seed 0 grid", "bct seed 0 w050", "bct seed 0 grid"]  # fmt: skip
    assert "about" in next(line for line in runner.lines if line.startswith("[2/7]"))
    assert [result.method for result in load_results(suite, tmp_path / "results")] == ["ours", "unified", "bct"]
    again = make_runner()
    again.lines.clear()
    assert again.run() == []
    assert again.lines == ["3 results exist; 0 commands to run"]


def test_a_reference_is_trained_first_even_if_its_method_was_not_asked_for(make_runner, tmp_path):
    runner = make_runner(only=["bct"])
    runner.dry_run()
    assert [line.splitlines()[0] for line in runner.lines[1:]] == [
        "# unified seed 0 w100 (new)", "# bct seed 0 w050 (new)", "# bct seed 0 grid",
    ]  # fmt: skip
    assert runner.run() == []
    assert not (tmp_path / "results" / "unified-seed0.json").exists()


def test_a_failure_is_reported_and_only_what_needs_it_is_left_out(make_runner, monkeypatch, tmp_path):
    monkeypatch.setenv("FAKE_FAILS", "unified/seed0/w100")
    runner = make_runner()
    assert runner.run() == ["unified seed 0 w100", "unified seed 0 grid", "bct seed 0 w050", "bct seed 0 grid"]
    text = "\n".join(runner.lines)
    assert "unified seed 0 w100: FAILED, exit code 3, fabricated trouble (log: " in text
    assert "bct seed 0 w050: FAILED, not run: it needs unified seed 0 w100" in text
    assert (tmp_path / "results" / "ours-seed0.json").exists()
    monkeypatch.delenv("FAKE_FAILS")
    assert make_runner().run() == []


def test_runs_of_another_state_of_the_code_are_named(make_runner, suite, tmp_path):
    make_runner(only=["unified"]).run()
    path = tmp_path / "jobs" / "unified" / "seed0" / "w100" / "run.json"
    path.write_text(path.read_text().replace(code_digest(), "sha256:before"))
    runner = make_runner(only=["bct"])
    assert "note: the code has changed since these runs were started: unified seed 0 w100" in runner.lines
    runner.run()
    assert read_result(tmp_path / "results" / "bct-seed0.json").code == sorted([code_digest(), "sha256:before"])


def digest_of(source):
    """That of a package with one file."""
    return f"sha256:{hashlib.sha256(b'module.py' + bytes(1) + source.encode()).hexdigest()}"


def test_code_that_is_edited_meanwhile_is_known_by_each_of_its_states(make_runner, tools, monkeypatch, tmp_path):
    module = tmp_path / "package" / "module.py"
    module.parent.mkdir()
    monkeypatch.setattr(runs, "__file__", str(tmp_path / "package" / "comparison" / "runs.py"))
    for name, source in (("train.py", "after training"), ("grid.py", "after the grid")):
        with (tools / name).open("a") as file:
            file.write(f"\npathlib.Path({str(module)!r}).write_text({source!r})\n")
    record, result = tmp_path / "jobs" / "ours" / "seed0" / "run.json", tmp_path / "results" / "ours-seed0.json"

    module.write_text("as the command started")
    runner = make_runner(only=["ours"])
    module.write_text("as the training started")
    assert runner.run() == []
    trained = [digest_of("as the training started"), digest_of("after training")]
    assert json.loads(record.read_text())["code"] == sorted(trained)
    assert read_result(result).code == sorted([*trained, digest_of("after the grid")])

    result.unlink()
    module.write_text("as the second grid started")
    assert make_runner(only=["ours"]).run() == []
    grid = [digest_of("as the second grid started"), digest_of("after the grid")]
    assert read_result(result).code == sorted([*trained, *grid])


KEYS = ["format", "suite", "method", "title", "kind", "seed", "settings", "files", "grid", "negative_flips", "timing",
        "versions", "hardware", "code", "commands"]  # fmt: skip


def test_a_result_names_the_machines_of_its_trainings(make_runner, suite, monkeypatch, tmp_path):
    """BCT's full model is Unified's, which another machine has trained."""
    monkeypatch.setattr(provenance, "_cpu_model", lambda: "Abacus")
    make_runner(only=["unified"]).run()
    monkeypatch.setattr(provenance, "_cpu_model", lambda: "Slide rule")
    make_runner(only=["bct"]).run()
    cores = os.cpu_count()
    paths = {method: tmp_path / "results" / f"{method}-seed0.json" for method in ("unified", "bct")}
    content = {method: json.loads(path.read_text()) for method, path in paths.items()}
    assert list(content["unified"]) == KEYS, "one machine: as ever"
    assert content["unified"]["hardware"]["cpu"] == "Abacus"
    assert content["bct"]["hardware"]["cpu"] == "Slide rule"
    machines = content["bct"]["machines"]
    assert {one["hardware"]["cpu"] for one in machines} == {"Abacus", "Slide rule"}
    assert len(machines) == 2
    assert all(one["versions"] == content["bct"]["versions"] for one in machines)
    header = Comparison(suite, [read_result(paths["bct"])]).header()
    assert header["Hardware"] == f"Abacus, {cores} CPU cores; Slide rule, {cores} CPU cores"
    assert Comparison(suite, [read_result(paths["unified"])]).header()["Hardware"] == f"Abacus, {cores} CPU cores"


def test_each_attempt_of_a_training_has_its_machine(make_runner, suite, monkeypatch, tmp_path):
    run = plan(suite, tmp_path / "jobs", [0], ["ours"])[0].runs[0]
    monkeypatch.setattr(provenance, "_cpu_model", lambda: "Abacus")
    run.record(started=1)
    (run.folder / "last_checkpoint").write_text("model_0000.pth")
    monkeypatch.setattr(provenance, "_cpu_model", lambda: "Slide rule")
    make_runner(only=["ours"]).run()
    machines = json.loads((run.folder / "run.json").read_text())["machines"]
    assert [one["hardware"]["cpu"] for one in machines] == ["Abacus", "Slide rule"]
    result = json.loads((tmp_path / "results" / "ours-seed0.json").read_text())
    assert [one["hardware"]["cpu"] for one in result["machines"]] == ["Abacus", "Slide rule"]


def test_records_of_an_earlier_version_do_not_know_their_machine(make_runner, tmp_path):
    make_runner(only=["ours"]).run()
    record, result = tmp_path / "jobs" / "ours" / "seed0" / "run.json", tmp_path / "results" / "ours-seed0.json"
    content = json.loads(record.read_text())
    record.write_text(json.dumps({key: value for key, value in content.items() if key != "machines"}))
    result.unlink()
    assert make_runner(only=["ours"]).run() == []
    assert list(json.loads(result.read_text())) == KEYS


def test_an_interrupted_run_is_resumed_and_a_new_one_is_not(make_runner, suite, tmp_path):
    run = plan(suite, tmp_path / "jobs", [0], ["ours"])[0].runs[0]
    run.record(started=1)
    (run.folder / "last_checkpoint").write_text("model_0000.pth")
    runner = make_runner(only=["ours"], seeds=(0, 1))
    runner.run()
    logs = [(tmp_path / "jobs" / "ours" / f"seed{seed}" / "train.txt").read_text() for seed in (0, 1)]
    assert logs[0].startswith("arguments --resume --config-file ")
    assert "--resume" not in logs[1]
    assert any("ours seed 0: continues" in line for line in runner.lines)
    result = json.loads((tmp_path / "results" / "ours-seed0.json").read_text())
    assert result["timing"]["runs"][0]["starts"] == 2


def test_results_say_what_was_run_but_not_where(make_runner, tmp_path):
    make_runner(only=["bct"]).run()
    path = tmp_path / "results" / "bct-seed0.json"
    content = json.loads(path.read_text())
    assert str(tmp_path) not in path.read_text()
    assert content["commands"][0].startswith("python tools/train_net.py --config-file configs/quick/sfsc_tiny.yml ")
    assert content["commands"][0].endswith("OUTPUT_DIR jobs/bct/seed0/w050")
    assert content["grid"]["config"] == "configs/quick/sfsc_tiny.yml"
    assert content["negative_flips"] == [[None, 50.0], [0.0, None]]
    assert content["hardware"]["cores"] >= 1
    assert content["timing"]["runs"][0]["width"] == 0.5
    assert content["code"] == [code_digest()]
    assert read_result(path).grid[0, 1] == 55.0


def test_results_of_other_settings_are_refused(make_runner, suite):
    make_runner(only=["ours"]).run()
    object.__setattr__(suite, "opts", (*suite.opts, "SOLVER.BASE_LR", "0.3"))
    with pytest.raises(InputError, match=r"ours-seed0.json: was made with other settings.*SOLVER.BASE_LR .* 0.3 asked"):
        make_runner(only=["ours"])


def test_damaged_results_are_refused(make_runner, tmp_path):
    make_runner(only=["ours"]).run()
    path = tmp_path / "results" / "ours-seed0.json"
    content = json.loads(path.read_text())
    for text, match in (
        ("{", "must be a readable JSON file"),
        (json.dumps({**content, "format": 2}), "must be a result of format 1"),
        (json.dumps({k: v for k, v in content.items() if k != "grid"}), "ours-seed0.json: grid: must be given"),
    ):
        path.write_text(text)
        with pytest.raises(InputError, match=match):
            read_result(path)


def test_the_time_left_is_of_the_same_kind_where_known():
    estimate = Estimate()
    assert estimate.left(["a"]) is None
    estimate.add("a", 10.0)
    estimate.add("a", 20.0)
    estimate.add("b", 3.0)
    assert estimate.left(["a", "b", "c"]) == 15.0 + 3.0 + 11.0
    assert estimate.left([]) == 0.0
    assert [format_seconds(s) for s in (59.6, 600, 9000)] == ["60 s", "10 min", "2.5 h"]


def test_no_absolute_path_survives():
    place = Path("/data/someone/jobs")
    content = {"a": ["x /data/someone/jobs/m/seed0 --model 0.5=/data/other/run", 3, None], "b": f"{Path.cwd()}/c.yml"}
    assert portable(content, [place]) == {"a": ["x jobs/m/seed0 --model 0.5=run", 3, None], "b": "c.yml"}
