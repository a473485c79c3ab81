"""tools/describe_backbones.py: counts against counting by hand, comparisons against a planted difference."""

import json

import pytest
import torch
from torch import nn

from benchmarks import backbones
from doc_tables.measurements import backbone_table


def test_cost_is_that_of_counting_by_hand():
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False),  # 8 x 3 x 9 weights at 4 x 3 positions
        nn.BatchNorm2d(8),
        nn.Conv2d(8, 8, 3, padding=1, groups=4),  # 8 x 2 x 9 and 8 biases
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 5, bias=False),
    )
    assert backbones.cost(network, (8, 6)) == (
        216 + 16 + 144 + 8 + 40,
        216 * 12 + 144 * 12 + 40,
    )


def test_a_difference_is_seen(monkeypatch):
    monkeypatch.setattr(backbones, "SIZE", (64, 32))
    row = backbones.describe("mobilenetv2", "0.1x")
    assert row["full_width_equal"] == {"training": True, "evaluation": True}
    assert row["extraction_equal"] == [True] * 4
    assert row["features"] == [320, 640, 960, 1280]

    def wrong(network, index):
        static = extract(network, index)
        if index == 1:
            with torch.no_grad():
                static.conv[0].weight[0, 0] += 1e-3
        return static

    extract = backbones.extract_module
    monkeypatch.setattr(backbones, "extract_module", wrong)
    again = backbones.describe("mobilenetv2", "0.1x")
    assert again["extraction_equal"] == [True, False, True, True]
    assert (again["parameters"], again["macs"]) == (row["parameters"], row["macs"])


def test_a_depth_that_fastreid_cannot_build_is_said():
    assert "unknown to build_resnext_backbone, found 152x" in backbones.refusal("resnext", "152x")
    assert backbones.refusal("mobilenetv3", "Small") is None


@pytest.mark.parametrize("exact", [True, False])
def test_the_table_says_what_the_json_says(tmp_path, exact):
    row = {
        "family": "F", "depth": "d", "converts": ["d", "e"], "refused": {"g": "too deep"}, "features": [2, 8],
        "full_width_equal": {"training": True, "evaluation": exact}, "extraction_equal": [True, True],
        "parameters": [250_000, 2_000_000], "macs": [3_000_000, 30_000_000],
    }  # fmt: skip
    other = {"family": "G", "depth": "h", "converts": [], "refused": {"h": "no converter"}}
    versions = {"fastreid": "1", "torch": "2"}
    content = {"widths": [0.5, 1.0], "channel_divisor": 8, "families": [row, other], "versions": versions}
    path = tmp_path / "backbones.json"
    path.write_text(json.dumps(content))
    lines = backbone_table(path).splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    assert cells[2] == ["F", "d e", "d", "8", "2.00", "12.5", "0.03", "10.0", "yes" if exact else "no", "yes"]
    assert cells[3][:3] == ["G", "-", "h"]
    assert lines[5:7] == ["- F g does not convert: too deep", "- G h does not convert: no converter"]


@pytest.fixture
def describe(run_tool, monkeypatch):
    """Run the tool with a measurement that takes no time and has these versions; returns exit code and errors."""

    def run(*arguments, torch="2"):
        def measure(families):
            rows = [{"family": name, "depth": depth, "torch": torch} for name, (_, depth, _) in families.items()]
            return {**backbones.SETTINGS, "families": rows, "versions": {"fastreid": "1", "torch": torch}}

        monkeypatch.setattr(backbones, "measure", measure)
        code, _, err = run_tool("describe_backbones.py", *arguments)
        return code, err

    return run


def test_one_family_leaves_the_others_as_they_were(describe, tmp_path):
    path = tmp_path / "backbones.json"
    assert describe("--json", path) == (0, "")
    whole = json.loads(path.read_text())
    assert len(whole["families"]) > 10
    assert describe("--json", path, "--family", "ViT", torch="2") == (0, "")
    assert json.loads(path.read_text()) == whole
    assert describe("--json", path, "--family", "OSNet", "--family", "ResNet", torch="3") == (0, "")
    content = json.loads(path.read_text())
    assert [row["family"] for row in content["families"]] == [row["family"] for row in whole["families"]]
    assert content["versions"]["torch"] == "3"
    for row, former in zip(content["families"], whole["families"], strict=True):
        new = row["family"] in ("OSNet", "ResNet")
        assert row == ({**former, "torch": "3"} if new else {**former, "versions": whole["versions"]})
    assert describe("--json", path, torch="4") == (0, "")  # all families: nothing is kept
    assert {row["torch"] for row in json.loads(path.read_text())["families"]} == {"4"}


def test_one_family_makes_a_new_file(describe, tmp_path):
    assert describe("--json", tmp_path / "new.json", "--family", "ViT") == (0, "")
    assert [row["family"] for row in json.loads((tmp_path / "new.json").read_text())["families"]] == ["ViT"]


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"families": [{"family": "AlexNet"}]}', '{"families": []}', "other widths"]
)
def test_a_file_that_cannot_be_updated_stays(describe, tmp_path, text):
    path = tmp_path / "backbones.json"
    if text == "other widths":
        text = json.dumps({**backbones.SETTINGS, "widths": [1.0], "families": [], "versions": {}})
    path.write_text(text)
    code, err = describe("--json", path, "--family", "ViT")
    assert code == 2
    (line,) = err.splitlines()
    assert line.startswith(f"error: {path}: must be ")
    assert path.read_text() == text
