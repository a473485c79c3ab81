"""Results of other settings than their suite's: the command and its tables name their rows, and refuse none."""

import argparse
import json
import signal

import pytest
import yaml

from builders import CROSS_ENTROPY, TINY
from switchablecompat.cli import compare
from switchablecompat.comparison.deviations import describe_deviations
from switchablecompat.comparison.execute import Runner
from switchablecompat.comparison.runs import plan
from switchablecompat.comparison.suite import load_suite


@pytest.fixture
def write_suite(tmp_path):
    """Write a suite of two methods and two seeds; ``opts`` are those of the method ``ours``."""

    def write(**opts):
        common = {"MODEL.SWITCHABLE.WIDTHS": [0.5, 1.0], "DATASETS.MANIFEST": str(tmp_path / "{seed}.csv")}
        methods = [
            {"name": "ours", "title": "Ours", "kind": "switchable", "config": TINY, "opts": opts},
            {"name": "unified", "title": "Unified", "kind": "separate", "config": TINY},
        ]
        content = {"name": "toy", "seeds": [0, 1], "opts": {**common, **CROSS_ENTROPY}, "methods": methods}
        path = tmp_path / "toy.yml"
        path.write_text(yaml.safe_dump(content))
        return str(path)

    return write


@pytest.fixture
def finished_suite(write_suite, program, tmp_path):
    """The suite with both results of both methods."""
    for seed in (0, 1):
        (tmp_path / f"{seed}.csv").write_text("path,pid,camid,split\n")
    suite, jobs_dir = load_suite(write_suite()), tmp_path / "jobs"
    jobs = plan(suite, jobs_dir, [0, 1])
    assert Runner(suite, jobs, tmp_path / "results" / "toy", jobs_dir, lambda _: None, program=program).run() == []


@pytest.fixture
def make_table(tmp_path, monkeypatch, capsys):
    """Run the command; returns its notes, ``table.md`` and ``table.tex``."""
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # the handler of the test session stays

    def run(suite, **options):
        places = {"results_dir": str(tmp_path / "results"), "jobs_dir": str(tmp_path / "jobs")}
        asked = {"table_only": True, "dry_run": False, "only": [], "seeds": None, "jobs": 1, **options}
        assert compare.main(argparse.Namespace(suite=suite, **places, **asked)) == 0
        notes = [line for line in capsys.readouterr().out.splitlines() if line.startswith("note: ")]
        return notes, *((tmp_path / "results" / "toy" / name).read_text() for name in ("table.md", "table.tex"))

    return run


OTHER = "'Ours' (seeds 0, 1): SOLVER.BASE_LR {} there, 0.7 asked"


def test_rows_of_the_suites_own_settings_are_not_marked(finished_suite, write_suite, make_table):
    notes, markdown, latex = make_table(write_suite())
    assert notes == []
    assert "†" not in markdown
    assert "dagger" not in latex


@pytest.mark.parametrize("options", [{}, {"table_only": False, "only": ["unified"], "seeds": [1]}])
def test_rows_of_other_settings_are_named_once(options, finished_suite, write_suite, make_table, tmp_path):
    """Also if the command has finished other rows, whose settings are the suite's."""
    result = json.loads((tmp_path / "results" / "toy" / "ours-seed0.json").read_text())
    text = OTHER.format(result["settings"]["SOLVER.BASE_LR"])
    notes, markdown, latex = make_table(write_suite(**{"SOLVER.BASE_LR": 0.7}), **options)
    assert notes == [f"note: results with other settings than the suite asks for now: {text}"]
    head = markdown.split("## mAP")[0]
    assert f"**†: results with other settings than the suite asks for now**\n\n- {text}\n" in head
    assert "| **Ours†** (n=2) | w050 | 50.00 ± 0.00 |" in markdown
    assert "| **Unified** (n=2) | w050 |" in markdown
    assert r"Ours$^{\dagger}$ & $\phi_{1}$ & 50.00" in latex
    assert "\\multicolumn{4}{l}{$^{\\dagger}$ results with other settings than the suite asks for now} \\\\\n" in latex
    assert f"% results with other settings than the suite asks for now: {text}\n" in latex


def test_another_content_of_a_file_is_one_kind_whatever_the_seed(finished_suite, write_suite, make_table, tmp_path):
    for seed in (0, 1):
        (tmp_path / f"{seed}.csv").write_text(f"path,pid,camid,split\n{seed}.png,1,1,train\n")
    (note,) = make_table(write_suite())[0]
    assert "now: 'Ours', 'Unified' (seeds 0, 1): DATASETS.MANIFEST sha256:" in note


def test_settings_that_cannot_be_used_any_more_are_a_difference_too(finished_suite, write_suite, make_table):
    (note,) = make_table(write_suite(**{"SOLVER.NONE": 1}))[0]
    assert "now: 'Ours' (seeds 0, 1): " in note
    assert "SOLVER.NONE" in note


def test_one_line_for_each_kind_of_difference():
    found = {("a", 0): "KEY 1 there, 2 asked", ("a", 2): "KEY 1 there, 2 asked", ("b", 0): "KEY 1 there, 2 asked",
             ("c", 0): "KEY 1 there, 2 asked", ("c", 2): "OTHER x there, y asked"}  # fmt: skip
    assert describe_deviations(found, {"a": "A, large", "b": "B", "c": "C"}) == [
        "'A, large' (seeds 0, 2); 'B', 'C' (seed 0): KEY 1 there, 2 asked",
        "'C' (seed 2): OTHER x there, y asked",
    ]
