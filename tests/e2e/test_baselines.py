"""The baselines as a user runs them: the largest model first, then a smaller one with it as reference."""

import json
from itertools import chain

import pytest
import torch

from builders import CROSS_ENTROPY, TINY, train_net
from switchablecompat.engine import read_checkpoint

CE = (*chain(*CROSS_ENTROPY.items()), "SOLVER.AGGREGATION.NAME", "sum")
SINGLE = ("METHOD", "unified", *CE, "MODEL.SWITCHABLE.ONLY_WIDTH")
INFLUENCE = ("METHOD", "bct", "MODEL.LOSSES.NAME", "('CompatibleLoss', 'InfluenceLoss')")


def run(*options, data, folder):
    result = train_net("--config-file", TINY, *options, "OUTPUT_DIR", folder, data=data)
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    return json.loads((folder / "grid.json").read_text()), result.stdout


def logged(folder):
    """All keys in a run's metrics.json."""
    return set().union(*(json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return tmp_path_factory.mktemp("datasets")


@pytest.fixture(scope="module")
def unified(data, tmp_path_factory):
    """The largest model of the Unified row: its folder and its grid."""
    folder = tmp_path_factory.mktemp("unified_w100")
    return folder, run(*SINGLE, 1.0, data=data, folder=folder)[0]


@pytest.fixture(scope="module")
def bct(data, unified, tmp_path_factory):
    """BCT's smallest model, with the largest as its reference."""
    folder = tmp_path_factory.mktemp("bct_w025")
    options = (*SINGLE, 0.25, *INFLUENCE, *reference(unified[0]))
    grid, output = run(*options, data=data, folder=folder)
    return folder, grid, output


def reference(folder):
    return (
        "MODEL.REFERENCE.CONFIG_FILE", folder / "config.yaml", "MODEL.REFERENCE.WEIGHTS", folder / "model_final.pth"
    )  # fmt: skip


def test_unified_is_a_run_of_one_width(unified):
    folder, grid = unified
    assert (grid["widths"], grid["method"]) == ([1.0], "unified")
    assert [[type(cell) for cell in row] for row in grid["mAP"]] == [[float]]
    assert {"total_loss", "grad_norm_w100", "mAP_w100_w100"} <= logged(folder)  # one loss is the total


def test_bct_trains_with_the_frozen_classifier_of_the_largest(unified, bct):
    folder, grid, output = bct
    assert (grid["widths"], grid["method"]) == ([0.25], "bct")
    assert {"loss_compat_w025", "loss_influence_w025"} <= logged(folder)
    assert f"Reference: {unified[0] / 'model_final.pth'}" in output
    small, large = (read_checkpoint(str(f / "model_final.pth"))["model"] for f in (folder, unified[0]))
    assert small.keys() == large.keys()
    assert small["backbone.conv1.weight"].shape[0] < large["backbone.conv1.weight"].shape[0]
    assert not torch.equal(small["heads.weight"], large["heads.weight"])


def test_eval_only_needs_no_reference_and_reproduces_the_grid(unified, bct, data, tmp_path):
    folder, grid, _ = bct
    gone = reference(tmp_path / "gone")
    options = ("--eval-only", *SINGLE, 0.25, *INFLUENCE, *gone, "MODEL.WEIGHTS", folder / "model_final.pth")
    again, _ = run(*options, data=data, folder=tmp_path)
    assert again == grid


def test_the_config_that_a_run_leaves_is_a_config_file(bct, data, tmp_path):
    folder, grid, _ = bct
    result = train_net("--config-file", folder / "config.yaml", "--eval-only", "MODEL.WEIGHTS",
                       folder / "model_final.pth", "OUTPUT_DIR", tmp_path, data=data)  # fmt: skip
    assert result.returncode == 0, result.stderr[-2000:]
    assert json.loads((tmp_path / "grid.json").read_text())["mAP"] == grid["mAP"]


def test_asymmetric_s_runs_on_one_switchable_network(data, tmp_path):
    options = (
        "METHOD", "asymmetric_s", *CE, "MODEL.LOSSES.NAME", "('CompatibleLoss', 'AsymmetricLoss')",
        "MODEL.LOSSES.ASYMMETRIC.TEACHER", "full", "MODEL.LOSSES.COMPAT.SUBMODELS", "full",
    )  # fmt: skip
    grid, _ = run(*options, data=data, folder=tmp_path)
    assert grid["method"] == "asymmetric_s"
    assert {"loss_compat_w100", "loss_asymmetric_w025", "loss_asymmetric_w075"} <= logged(tmp_path)
    assert not {"loss_compat_w025", "loss_asymmetric_w100"} & logged(tmp_path)


@pytest.mark.parametrize("missing", ["CONFIG_FILE", "WEIGHTS"])
def test_a_reference_that_is_not_there_is_one_line(missing, unified, data, tmp_path):
    options = [*SINGLE, 0.25, *INFLUENCE, *reference(unified[0])]
    options[options.index(f"MODEL.REFERENCE.{missing}") + 1] = "nowhere"
    result = train_net("--config-file", TINY, *options, "OUTPUT_DIR", tmp_path, data=data)
    assert result.returncode == 2
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert f"MODEL.REFERENCE.{missing}" in line
    assert "nowhere" in line
    assert "Traceback" not in result.stderr
