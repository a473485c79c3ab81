"""tools/profile_precisions.py: every width in every precision, measured on the same queries."""

import json

import onnxruntime
import pytest

ARGUMENT = "command line: argument"


def test_files_and_cells_of_every_width(deployable, run_tool, monkeypatch):
    work, _ = deployable
    monkeypatch.chdir(work)
    monkeypatch.setenv("FASTREID_DATASETS", str(work / "datasets"))
    arguments = ["--weights", "run/model_final.pth", "--max-map-drop", 100, "--repeats", 3, "--output", "out"]
    arguments += ["--calibration-images", 16]
    code, out, err = run_tool("profile_precisions.py", *arguments)
    assert code == 0, err[-2000:]
    content = json.loads((work / "out" / "precisions.json").read_text())
    entries = {(entry["width"], entry["precision"]): entry for entry in content["entries"]}
    assert set(entries) == {(width, precision) for width in (0.25, 1.0) for precision in ("float32", "float16", "int8")}
    for width in (0.25, 1.0):
        sizes = [entries[width, precision]["file_bytes"] for precision in ("float32", "float16", "int8")]
        assert sizes[0] > sizes[1]
        assert sizes[0] > sizes[2]
        assert entries[width, "float32"]["cosine"]["lowest"] == pytest.approx(1, abs=1e-5)
        assert entries[width, "int8"]["cosine"]["lowest"] < entries[width, "float16"]["cosine"]["lowest"] < 1 + 1e-6
        for cell in entries[width, "float32"]["mAP"]:
            assert abs(cell["drop"]) < 0.05  # the same features, in another runtime
        assert entries[width, "float32"]["latency_ms"]["relative"] == pytest.approx(1)
    assert [cell["gallery"] for cell in entries[0.25, "int8"]["mAP"]] == ["w025", "w100", "w025 int8"]
    assert content["versions"]["onnxruntime"] == onnxruntime.__version__
    drop = entries[0.25, "int8"]["mAP"][1]
    assert f"{drop['mAP']:.2f} ({-drop['drop']:+.2f})" in out.replace(
        "(0.00)", "(-0.00)" if drop["drop"] > 0 else "(+0.00)"
    )
    assert (work / "out" / "precisions.md").read_text().strip() in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--repeats", "0"],
            f"{ARGUMENT} --repeats: must be a whole number of at least 1, found '0' (see --help)",
        ),
        (
            ["--calibration-images", "-1"],
            f"{ARGUMENT} --calibration-images: must be a whole number of at least 1, found '-1' (see --help)",
        ),
        (
            ["--max-map-drop", "-1"],
            f"{ARGUMENT} --max-map-drop: must be a number of at least 0, found '-1' (see --help)",
        ),
    ],
)
def test_bad_input_is_one_line(refused, tmp_path, arguments, message):
    line = refused("profile_precisions.py", ["--weights", "w.pth", "--output", tmp_path / "out", *arguments])
    assert line == f"error: {message}"
