"""A whole run by ``train_net.py`` on a GPU: loader, mixed precision, evaluation, checkpoint, and back to a CPU."""

import json

import pytest
import torch

from builders import TINY, train_net

pytestmark = pytest.mark.gpu
ON_GPU = ("MODEL.DEVICE", "cuda", "SOLVER.AMP.ENABLED", True, "MODEL.SWITCHABLE.CHANNELS_LAST", True, "SEED", 1)


def grid_of(folder):
    return json.loads((folder / "grid.json").read_text())["mAP"]


def test_a_run_trains_resumes_and_is_evaluated_on_the_cpu_alike(tmp_path):
    data, run, again = tmp_path / "data", tmp_path / "run", tmp_path / "again"
    arguments = ("--config-file", TINY, *ON_GPU, "DATALOADER.NUM_WORKERS", 2, "OUTPUT_DIR", run)
    first = train_net(*arguments, data=data)
    assert first.returncode == 0, first.stderr[-2000:]
    lines = [json.loads(line) for line in (run / "metrics.json").read_text().splitlines()]
    assert any("total_loss" in line for line in lines), "read at the end of an epoch, however short it is"
    more = train_net("--resume", "SOLVER.MAX_EPOCH", 3, "OUTPUT_DIR", run, data=data)
    assert more.returncode == 0, more.stderr[-2000:]
    assert torch.load(run / "model_final.pth", weights_only=False, map_location="cpu")["epoch"] == 2
    weights = run / "model_final.pth"
    on_cpu = train_net(
        "--config-file", TINY, "--eval-only", "MODEL.WEIGHTS", weights, "MODEL.DEVICE", "cpu", "OUTPUT_DIR", again,
        data=data,
    )  # fmt: skip
    assert on_cpu.returncode == 0, on_cpu.stderr[-2000:]
    for ours, theirs in zip(grid_of(run), grid_of(again), strict=True):
        assert ours == pytest.approx(theirs, abs=1.5)  # TF32 in the convolutions; 24 queries
