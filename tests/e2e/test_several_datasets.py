"""A whole run over several data sets in the real layouts: one network, a grid for each test set."""

import json

import pytest
import torch

import layouts
from builders import TINY, train_net

TESTS = {"Market1501": (3, 12), "SmallVehicleID": (15, 5), "SmallVeRiWild": (2, 6)}


def test_two_sets_to_train_and_three_to_test(tmp_path):
    data, out = tmp_path / "datasets", tmp_path / "out"
    for write in (layouts.market1501, layouts.vehicleid, layouts.veriwild):
        write(data)
    result = train_net(
        "--config-file", TINY, "OUTPUT_DIR", out, "DATASETS.NAMES", "('Market1501', 'VehicleID')",
        "DATASETS.TESTS", tuple(TESTS), "TEST.PRECISE_BN.DATASET", "Market1501", "SOLVER.IMS_PER_BATCH", 8,
        "SOLVER.MAX_EPOCH", 1, "SOLVER.WARMUP_ITERS", 0, "TEST.RERANK.ENABLED", True, "TEST.FLIP.ENABLED", True,
        data=data,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    assert torch.load(out / "model_final.pth", weights_only=True)["model"]["heads.weight"].shape[0] == 4 + 3
    rows = [json.loads(line) for line in (out / "metrics.json").read_text().splitlines()]
    last = [row for row in rows if "Market1501/metric" in row][-1]
    assert torch.load(out / "model_best.pth", weights_only=True)["metric"] == last["Market1501/metric"]
    for name, sizes in TESTS.items():
        grid = json.loads((out / f"grid_{name}.json").read_text())
        assert grid["dataset"] == name
        assert (grid["num_query"], grid["num_gallery"]) == sizes
        assert grid["flip"] is True
        assert grid["refined"]["refinement"] == {"rerank": {"k1": 20, "k2": 6, "weight": 0.3}}
        assert last[f"{name}/mAP_w025_w100"] == pytest.approx(grid["mAP"][0][3])
    assert result.stdout.count("After rerank (k1 20, k2 6, weight 0.3):") >= 3
