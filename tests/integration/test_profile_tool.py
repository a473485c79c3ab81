"""tools/profile_submodels.py on an untrained model: counts by other means, every combination timed."""

import json
import runpy
from pathlib import Path

import pytest
import torch

from builders import TINY, tiny_model
from switchablecompat import extract_submodel

TOOL = Path(__file__).parents[2] / "tools" / "profile_submodels.py"


@pytest.fixture(scope="module")
def tool():
    """Run the script in this process; returns the exit code."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(TOOL.parent)

        def run(*arguments):
            patch.setattr("sys.argv", [str(TOOL), *map(str, arguments)])
            with pytest.raises(SystemExit) as stop:
                runpy.run_path(str(TOOL), run_name="__main__")
            return stop.value.code

        yield run


@pytest.fixture(scope="module")
def folder(tool, tmp_path_factory):
    folder = tmp_path_factory.mktemp("profile")
    numbers = ("--batch", 1, "--batch", 2, "--repeats", 2, "--threads", 1)
    assert tool("--config-file", TINY, "--output", folder, *numbers, "MODEL.SWITCHABLE.WIDTHS", "[0.25, 1.0]") == 0
    return folder


def test_counts_and_sizes(folder):
    content = json.loads((folder / "profile.json").read_text())
    model = tiny_model("MODEL.SWITCHABLE.WIDTHS", "[0.25, 1.0]")
    for entry in content["submodels"]:
        plain = extract_submodel(model, entry["width"])
        counted = sum(p.numel() for key, p in plain.named_parameters() if key != "heads.weight")
        assert entry["parameters"] == counted
        for kind in ("checkpoint", "onnx"):
            assert 4 * counted < entry[f"{kind}_bytes"] < 4 * counted + 50_000
    assert content["submodels"][0]["macs"] == 894_976  # by hand in tests/unit/deploy/test_export.py
    assert (content["family"], content["threads"], content["repeats"]) == (None, 1, 2)
    assert {"torch", "onnxruntime", "switchablecompat"} <= {*content["versions"]}
    assert content["hardware"]["cpu"]


def test_every_combination_was_timed(folder):
    for entry in json.loads((folder / "profile.json").read_text())["submodels"]:
        assert set(entry["latency_ms"]) == {"pytorch", "onnxruntime"}
        for timings in entry["latency_ms"].values():
            assert set(timings) == {"1", "2"}
            for timing in timings.values():
                assert 0 < timing["low"] <= timing["median"] <= timing["high"]
                assert timing["relative"] > 0
                assert entry["width"] < 1 or timing["relative"] == 1
    text = (folder / "profile.md").read_text()
    assert all(f"| {runtime} | {batch} | w025 |" in text for runtime in ("pytorch", "onnxruntime") for batch in (1, 2))


def test_the_number_of_threads_is_put_back(folder):
    assert torch.get_num_threads() == 1  # tests/conftest.py


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config-file", "none.yml"], "--config-file: must be an existing yaml file, found none.yml"),
        (["--config-file", TINY, "--weights", "none.pth"], "none.pth: must be an existing checkpoint"),
        (
            ["--config-file", TINY, "--repeats", "0"],
            "command line: argument --repeats: must be a whole number of at least 1, found '0'",
        ),
        (
            ["--config-file", TINY, "--batch", "8", "--batch", "0"],
            "command line: argument --batch: must be a whole number of at least 1, found '0'",
        ),
        ([], "command line: --config-file or --weights must be given"),
    ],
)
def test_bad_input_is_one_line(tool, tmp_path, capsys, arguments, message):
    assert tool("--output", tmp_path / "out", *arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {message}")
    assert not (tmp_path / "out").exists()


def test_help_has_an_example(tool, capsys):
    assert tool("--help") == 0
    assert "python tools/profile_submodels.py --config-file" in capsys.readouterr().out
