"""tools/report.py on a model saved to disk: its files agree with the trainer's grid, on the data set's own images."""

import csv
import functools
import json

import numpy as np
import pytest
from PIL import Image

HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.fixture
def run_folder(evaluated_run):
    """A switchable model with random weights, and the grid that the trainer writes for it."""
    return evaluated_run


@pytest.fixture
def tool(run_folder, run_tool):
    """Run the script in this process; returns exit code, output and errors."""
    files = ("--config-file", run_folder / "config.yaml", "--weights", run_folder / "model_final.pth")
    return functools.partial(run_tool, "report.py", *files)


def test_the_report_agrees_with_the_trainers_grid(tool, run_folder, tmp_path):
    code, out, err = tool("--output", tmp_path)
    assert code == 0, err
    assert {path.name for path in tmp_path.iterdir()} == {"report.json", "queries.csv", "report.html"}
    report = json.loads((tmp_path / "report.json").read_text())
    grid = json.loads((run_folder / "grid.json").read_text())
    assert report["grid"] == grid
    assert "query \\ gallery" in out

    with (tmp_path / "queries.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == grid["num_query"]
    assert all(row["query"].startswith("query/") and row["query"].endswith(".jpg") for row in rows)
    for q, query in enumerate(("w050", "w100")):
        for g, gallery in enumerate(("w050", "w100")):
            cell = f"{query}/{gallery}"
            precision = [float(row[f"AP {cell}"]) for row in rows]
            assert 100 * np.mean(precision) == pytest.approx(grid["mAP"][q][g], abs=1e-9)
            assert report["cmc"][cell][0] == pytest.approx(grid["Rank-1"][q][g], abs=1e-9)
    page = (tmp_path / "report.html").read_text()
    assert grid["family"] in page
    assert f"{grid['mAP'][0][1]:.2f}" in page
    assert len(page) < 5_000_000


def test_refined_cells_are_on_the_page_and_not_in_its_provenance(tool, run_folder, tmp_path):
    code, out, err = tool("--output", tmp_path, "TEST.RERANK.ENABLED", True, "TEST.RERANK.K1", 8, "TEST.RERANK.K2", 3)
    assert code == 0, err
    grid = json.loads((tmp_path / "report.json").read_text())["grid"]
    refined = grid.pop("refined")
    assert grid == json.loads((run_folder / "grid.json").read_text())
    page = (tmp_path / "report.html").read_text()
    assert page.count("rerank (k1 8, k2 3, weight 0.3)") == 1
    assert f">{refined['mAP'][0][1]:.2f}" in page
    assert "After rerank (k1 8, k2 3, weight 0.3):" in out


def test_hostile_file_names_of_a_data_set_stay_text(tool, tmp_path):
    rows = ["path,pid,camid,split"]
    for number in range(24):
        name = f"{number}{HOSTILE}.png"
        pixels = np.random.default_rng(number).integers(0, 255, (32, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / name, format="PNG")
        rows.append(f"{name},{number % 12},{number // 12},{'query' if number < 12 else 'gallery'}")
    (tmp_path / "manifest.csv").write_text("\n".join(rows))
    out = tmp_path / "out"
    code, _, err = tool("--output", out, "--dataset", "ManifestReID", "DATASETS.MANIFEST", tmp_path / "manifest.csv")
    assert code == 0, err
    lost = json.loads((out / "report.json").read_text())["negative_flips"]["worst"]
    assert lost, "no flip, no picture: nothing would be tested"
    page = (out / "report.html").read_text()
    assert page.count("data:image/jpeg;base64,") == 3 * len(lost)
    assert HOSTILE not in page
    assert "&lt;img src=x onerror=alert(1)&gt;.png" in page


def test_bad_input_is_one_line_and_writes_nothing(tool, tmp_path):
    code, _, err = tool("--output", tmp_path / "out", "--dataset", "None")
    assert code == 2
    assert [line.startswith("error: data set: must be one of") for line in err.splitlines()][-1]
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_written_is_one_line(tool, tmp_path):
    (tmp_path / "file").write_text("")
    code, _, err = tool("--output", tmp_path / "file")
    assert code == 2
    assert "error: --output: must be a folder that can be written" in err


def test_help_has_an_example(tool):
    code, out, _ = tool("--help")
    assert code == 0
    assert "python tools/report.py --weights outputs/demo/model_final.pth" in out


def test_the_queries_have_the_identities_and_cameras_of_the_csv(tool, tmp_path):
    rows = ["path,pid,camid,split"]
    for number in range(12):
        pixels = np.random.default_rng(number).integers(0, 255, (32, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
        rows.append(f"{number}.png,Zoë {number % 4},door {number // 4},{'query' if number < 4 else 'gallery'}")
    (tmp_path / "manifest.csv").write_text("\n".join(rows))
    out = tmp_path / "out"
    code, _, err = tool("--output", out, "--dataset", "ManifestReID", "DATASETS.MANIFEST", tmp_path / "manifest.csv")
    assert code == 0, err
    with (out / "queries.csv").open(newline="", encoding="utf-8") as file:
        found = [(row["query"], row["pid"], row["camid"]) for row in csv.DictReader(file)]
    assert found == [(f"{number}.png", f"Zoë {number}", "door 0") for number in range(4)]
