"""What ``make gpu`` does, with tiny numbers on a CPU: every part, its file, and the tables made from them."""

import importlib.metadata
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from doc_tables.measurements import gpu_tables

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_the_dry_run_leaves_every_file(tmp_path):
    command = [sys.executable, "-m", "gpu", "--dry-run", "--budget", "3000", "--output", str(tmp_path)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=1500, check=False)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    said = (tmp_path / "log.txt").read_text()
    assert result.returncode == 0, said[-3000:] + result.stderr
    assert {part["status"] for part in manifest["parts"].values()} == {"done"}
    assert manifest["dry_run"] is True
    assert manifest["versions"]["torch"] == importlib.metadata.version("torch")
    content = {name: json.loads((tmp_path / f"{name}.json").read_text()) for name in manifest["parts"]}
    assert content["tests"]["complete"] is True
    assert {*content["tests"]["counts"]} == {"passed"}
    names = " ".join(row["name"] for row in content["step"]["rows"] + content["grid"]["rows"])
    assert "SFSC step" in names
    assert "COMPILE aot_eager" in names
    assert "4 x 4 grid" in names
    assert content["grid"]["largest_difference_to_the_cpu_in_points"] == 0  # it was the CPU
    names = ["sfsc", "unified_w100", "bct_s", "bct_s_agreement", "sfsc_no_uncertainty"]
    assert [*content["finetune"]["runs"]] == names
    assert len(content["finetune"]["runs"]["sfsc"]["grid"]["mAP"]) == 4
    tables = gpu_tables(tmp_path)
    assert "a dry run, whose numbers mean nothing" in tables
    lines = [line.split("|")[1].strip() for line in tables.splitlines() if line.startswith("|")]
    assert {*names} < {*lines}
    assert "passed" in tables


def test_without_a_session_the_page_says_so(tmp_path):
    assert gpu_tables(tmp_path) == "Not measured yet: `make gpu` has not been run on a GPU."


def test_parts_of_an_earlier_session_have_its_machine_and_versions(tmp_path):
    now = {"dry_run": True, "hardware": {"gpu": None, "cpu": "Xeon"}, "versions": {"torch": "2"}}
    then = {"dry_run": False, "hardware": {"gpu": "H100"}, "versions": {"torch": "1"}}
    done = {"status": "done", "seconds": 3.0}
    parts = {"step": {"session": then, **done}, "tests": done, "grid": done}
    (tmp_path / "manifest.json").write_text(json.dumps({**now, "parts": parts}))
    dry = "tests, grid: Xeon; torch 2; a dry run, whose numbers mean nothing"
    assert gpu_tables(tmp_path).endswith(f"(step: H100; torch 1)\n\n({dry})")
    (tmp_path / "manifest.json").write_text(json.dumps({**then, "parts": {"step": done}}))
    assert gpu_tables(tmp_path).endswith("\n\n(H100; torch 1)")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_is_one_line_and_an_error(tmp_path):
    command = [sys.executable, "-m", "gpu", "--output", str(tmp_path)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert result.returncode == 1
    assert result.stderr.strip() == "error: there is no CUDA device; --dry-run rehearses on a CPU"
