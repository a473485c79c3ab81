"""FastReID's own evaluation through the shims."""

from __future__ import annotations

import subprocess

import faiss
import numpy as np
import pytest
import torch
from fastreid.config import get_cfg
from fastreid.evaluation import ReidEvaluator
from fastreid.utils import compute_dist
from fastreid.utils.compute_dist import build_dist

from switchablecompat.fastreid_shims import evaluation


def test_evaluator_starts_no_process_and_gives_metrics(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*args: object, **kwargs: object) -> None:
        raise AssertionError("a process was started")

    monkeypatch.setattr(subprocess, "run", forbidden)
    cfg = get_cfg()
    cfg.TEST.RERANK.ENABLED = True
    cfg.TEST.RERANK.K1, cfg.TEST.RERANK.K2 = 4, 2
    pids = torch.arange(12).repeat(2)
    camids = torch.tensor([0] * 12 + [1] * 12)
    features = torch.eye(12).repeat(2, 1)
    evaluator = ReidEvaluator(cfg, num_query=12)
    evaluator.process({"targets": pids, "camids": camids}, features)
    results = evaluator.evaluate()
    assert results["mAP"] == pytest.approx(100)
    assert results["Rank-1"] == pytest.approx(100)


def test_rerank_on_the_cpu_prefers_mutual_neighbours() -> None:
    groups = torch.eye(3).repeat_interleave(4, dim=0) + 0.01 * torch.rand(12, 3)
    distances = build_dist(groups[:1], groups[1:], metric="jaccard", k1=4, k2=1)
    assert distances.shape == (1, 11)
    assert distances[0, :3].max() < distances[0, 3:].min()


def test_rerank_on_the_cpu_is_fastreids_own_cpu_search() -> None:
    features = torch.rand(12, 6)
    upstream = compute_dist.compute_jaccard_distance.__wrapped__(features, k1=5, k2=2, search_option=3)
    assert np.array_equal(build_dist(features[:4], features[4:], metric="jaccard", k1=5, k2=2), upstream[:4, 4:])


@pytest.mark.parametrize("cuda", [True, False])
@pytest.mark.parametrize("gpu_faiss", [True, False])
def test_gpu_search_needs_a_gpu_and_its_faiss(monkeypatch: pytest.MonkeyPatch, cuda: bool, gpu_faiss: bool) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    for name in ("StandardGpuResources", "bruteForceKnn", "cast_integer_to_float_ptr", "cast_integer_to_long_ptr"):
        if gpu_faiss:
            monkeypatch.setattr(faiss, name, object(), raising=False)
        else:
            monkeypatch.delattr(faiss, name, raising=False)
    assert evaluation.gpu_search_available() == (cuda and gpu_faiss)


def test_euclidean_is_the_squared_distance() -> None:
    a, b = torch.rand(4, 8, dtype=torch.float64), torch.rand(5, 8, dtype=torch.float64)
    expected = torch.cdist(a, b).square().numpy()
    np.testing.assert_allclose(compute_dist.compute_euclidean_distance(a, b), expected, rtol=0, atol=1e-13)
