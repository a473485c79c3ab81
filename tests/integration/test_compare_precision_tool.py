"""tools/compare_precision.py: the difference that half precision makes, per cell, agrees with the grids themselves."""

import functools
import json

import pytest


@pytest.fixture
def tool(evaluated_run, run_tool):
    files = ("--config-file", evaluated_run / "config.yaml", "--weights", evaluated_run / "model_final.pth")
    return functools.partial(run_tool, "compare_precision.py", *files)


def test_differences_are_those_of_two_grids(tool, run_tool, evaluated_run, tmp_path):
    code, out, err = tool("--precision", "bfloat16", "--output", tmp_path)
    assert code == 0, err
    found = json.loads((tmp_path / "precision.json").read_text())
    files = ("--config-file", evaluated_run / "config.yaml", "--weights", evaluated_run / "model_final.pth")
    code, _, err = run_tool("cross_test.py", *files, "--output", tmp_path / "half", "TEST.PRECISION", "bfloat16")
    assert code == 0, err
    full, half = (json.loads((folder / "grid.json").read_text()) for folder in (evaluated_run, tmp_path / "half"))
    assert (full["precision"], half["precision"]) == ("float32", "bfloat16")
    assert found["grid"] == full
    assert len(found["cells"]) == 4
    largest = 0.0
    for number, row in enumerate(found["cells"]):
        q, g = divmod(number, 2)
        for metric in ("mAP", "Rank-1"):
            expected = half[metric][q][g] - full[metric][q][g]
            largest = max(largest, abs(expected))
            assert row[metric]["float32"] == full[metric][q][g]
            assert row[metric]["difference"] == pytest.approx(expected, abs=1e-9)
            assert f"{expected:+.3f}" in out
    assert found["largest_difference"] == pytest.approx(largest, abs=1e-9)
    assert {*found["feature_cosines"]} == {"w050", "w100"}
    assert all(0.9 < value["lowest"] <= value["mean"] <= 1 + 1e-6 for value in found["feature_cosines"].values())


def test_what_cannot_be_compared_is_one_line(tool, tmp_path):
    code, _, err = tool("--precision", "float16", "--output", tmp_path / "out", "MODEL.DEVICE", "cpu")
    assert code == 2
    assert "error: TEST.PRECISION: must be bfloat16 or float32 without a CUDA device, found 'float16'" in err
    code, _, err = tool("--precision", "float32", "--output", tmp_path / "out")
    assert code == 2
    assert "error: command line: argument --precision: invalid choice" in err
    code, _, err = tool("--output", tmp_path / "out")
    assert "the following arguments are required: --precision" in err
