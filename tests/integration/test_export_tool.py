"""tools/export_submodel.py, and that docs/deploy.md's Python runs as written on what it exports."""

import functools
import json
import re
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from switchablecompat.deploy.files import export
from switchablecompat.deploy.images import read_images

ROOT = Path(__file__).parents[2]
PREPROCESSING = {"size": [64, 32]}
ARGUMENT = "command line: argument"


@pytest.fixture
def tool(deployable, run_tool, monkeypatch):
    """Run the script in this process, in the user's folder; returns exit code, output and errors."""
    monkeypatch.chdir(deployable[0])
    monkeypatch.setenv("FASTREID_DATASETS", str(deployable[0] / "datasets"))
    return functools.partial(run_tool, "export_submodel.py")


RUN = ("--config-file", "run/config.yaml", "--weights", "run/model_final.pth")


def test_one_width_in_all_kinds_and_the_documentations_python(tool, deployable):
    folder, model = deployable
    code, out, err = tool(*RUN, "--width", 0.25, "--images", "my_images", "--output", "outputs/export")
    assert code == 0, err
    found = {path.relative_to("outputs/export").as_posix() for path in Path("outputs/export").rglob("*.*")}
    assert found == {
        "w025-checkpoint/config.yaml", "w025-checkpoint/model.json", "w025-checkpoint/model.pth",
        "w025-onnx/model.json", "w025-onnx/model.onnx",
        "w025-program/model.json", "w025-program/model.pt2",
    }  # fmt: skip
    assert len(out.splitlines()) == 3
    assert "outputs/export/w025-checkpoint/model.pth" in out
    assert "largest difference 0.0e+00 (batch 1), 0.0e+00 (batch 8)" in out

    paths = sorted((folder / "my_images").iterdir())[:2]
    images = read_images(paths, PREPROCESSING)
    with torch.no_grad(), model.switch.use(0):
        expected = F.normalize(model(images))
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "deploy.md").read_text().split("## Search")[0], re.S)
    assert len(blocks) == 4
    names = {"paths": [str(path) for path in paths]}
    for code in blocks:
        exec(compile(code, "docs/deploy.md", "exec"), names)
        features = torch.as_tensor(names.pop("features"))
        torch.testing.assert_close(features, expected, rtol=0, atol=2e-6, msg=lambda text, code=code: f"{text}\n{code}")


def test_all_widths_on_the_configs_test_set(tool):
    code, out, err = tool(*RUN, "--all", "--kind", "checkpoint", "--output", "all")
    assert code == 0, err
    cards = {path.parent.name: json.loads(path.read_text()) for path in Path("all").rglob("model.json")}
    assert set(cards) == {"w025-checkpoint", "w100-checkpoint"}
    assert {card["parity"]["source"] for card in cards.values()} == {"SyntheticReIDTiny"}
    assert len({card["family"] for card in cards.values()}) == 1
    assert len(out.splitlines()) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--width", "0.3"], "run/model_final.pth: must have a sub-model of width 0.3, found widths [0.25, 1.0]"),
        (["--width", "half"], "command line: argument --width: invalid float value: 'half'"),
        ([], "command line: either --width or --all must be given"),
        (["--width", "1.0", "--all"], "command line: either --width or --all must be given"),
        (["--all", "--kind", "tflite"], "command line: argument --kind: invalid choice: 'tflite'"),
        (["--all", "MODEL.SWITCHABLE.WIDTHS", "[0.5,1.0]"], "MODEL.SWITCHABLE.WIDTHS: must be [0.25, 1.0], as run"),
        (["--all", "--tolerance", "-1"], f"{ARGUMENT} --tolerance: must be a number of at least 0, found '-1'"),
        (["--all", "NO.KEY", "1"], "NO.KEY: must be an existing key"),
        (["--all", "--images", "none"], "none: must be an existing folder of images"),
        (["--all", "INPUT.SIZE_TEST", "[0,0]"], "INPUT.SIZE_TEST: must be [64, 32], as run/model_final.pth"),
        (["--all", "--weights", "none.pth"], "none.pth: must be an existing checkpoint"),
        (["--all", "--weights", "run/config.yaml"], "run/config.yaml: must be a whole checkpoint"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line_and_writes_nothing(tool, tmp_path, arguments, message):
    code, _, err = tool(*RUN, "--output", tmp_path / "out", *arguments)
    assert code == 2
    (line,) = err.splitlines()
    assert line.startswith(f"error: {message}")
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_written(tool, tmp_path):
    (tmp_path / "file").touch()
    code, _, err = tool(
        *RUN, "--width", 1.0, "--kind", "checkpoint", "--images", "my_images", "--output", tmp_path / "file"
    )
    assert code == 2
    assert err == f"error: --output: must be a folder that can be written to, found {tmp_path / 'file'}\n"


def test_features_above_the_tolerance_leave_no_file(tool, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "largest_differences", lambda *_: {"batch_1": 2e-6, "batch_8": 1e-6})
    arguments = (*RUN, "--width", 0.25, "--kind", "program", "--images", "my_images", "--output", tmp_path / "out")
    code, _, err = tool(*arguments, "--tolerance", "1.5e-6")
    assert code == 2
    assert err.startswith("error: w025-program: features must differ from the switchable network's by at most 1.5e-06;")
    assert "found 2e-06 (batch_1), 1e-06 (batch_8)" in err
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize("package", ["onnx", "onnxscript", "onnxruntime"])
def test_a_missing_package_says_what_to_install(tool, tmp_path, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    code, _, err = tool(*RUN, "--all", "--output", tmp_path / "out")
    assert code == 2
    assert err.startswith(f"error: {package}: is needed for --kind onnx: pip install 'switchablecompat[deploy]'")
    assert len(err.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_help_has_an_example(tool):
    code, out, _ = tool("--help")
    assert code == 0
    assert "python tools/export_submodel.py --weights" in out
