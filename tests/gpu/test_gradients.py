"""Gradient bank and aggregators on a GPU against the CPU's, and averaging by NCCL in a group of one process."""

import copy
import os

import pytest
import torch

from builders import tiny_config, tiny_model
from loops import make_loop, train
from switchablecompat.aggregation import build_aggregation
from switchablecompat.aggregation.build import AGGREGATORS
from switchablecompat.layers import shared_parameters

pytestmark = pytest.mark.gpu
NEEDS = {"upgrad": ["quadprog"], "cagrad": ["cvxpy", "clarabel"]}  # of those that TorchJD has


def aggregated(model, cfg, gradients):
    """What the aggregation leaves in ``.grad``, and its scalars, on the CPU."""
    aggregation = build_aggregation(cfg, model)
    shared = shared_parameters(model)
    for index, own in enumerate(gradients):
        for p, gradient in zip(shared, own, strict=True):
            p.parameter.grad = gradient.to(p.parameter.device).clone()
        aggregation.collect(index, 1.0)
    scalars = aggregation.aggregate(3)
    return [p.parameter.grad.cpu() for p in shared], {key: value.item() for key, value in scalars.items()}


@pytest.mark.parametrize("name", [*AGGREGATORS])
@pytest.mark.parametrize("granularity", ["filter", "layer", "global"])
def test_the_aggregate_is_the_cpus(name, granularity, device):
    if (name, granularity) == ("cagrad", "filter"):
        pytest.skip("20 ms for each of a thousand filters")
    for package in NEEDS.get(name, ()):
        pytest.importorskip(package)
    cfg = tiny_config("SOLVER.AGGREGATION.NAME", name, "SOLVER.AGGREGATION.GRANULARITY", granularity)
    model = tiny_model()
    generator = torch.Generator().manual_seed(1)
    gradients = []
    for index in range(len(model.switch)):
        own = []
        for p in shared_parameters(model):
            gradient = torch.randn(p.parameter.shape, generator=generator)
            own.append(gradient if p.shells is None else gradient * (p.shells.cpu() <= index))
        gradients.append(own)
    expected, scalars = aggregated(model, cfg, gradients)
    found, on_gpu = aggregated(copy.deepcopy(model).to(device), cfg, gradients)
    assert on_gpu == pytest.approx(scalars, rel=1e-6, abs=1e-9)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)  # float32 sums; solvers in float64


def test_nccl_in_a_group_of_one_process_changes_nothing(monkeypatch):
    torch.backends.cudnn.deterministic = True
    alone = train(make_loop(), 4)
    port = 20_000 + os.getpid() % 20_000
    torch.distributed.init_process_group("nccl", f"tcp://127.0.0.1:{port}", rank=0, world_size=1)
    try:
        loop = make_loop()
        # a world of one skips the collectives: they are called here as a world of two would
        start = loop._start_averaging
        monkeypatch.setattr(
            loop,
            "_start_averaging",
            lambda index: (
                start(index) or [torch.distributed.all_reduce(loop.aggregation.bank.rows[index], async_op=True)]
            ),
        )
        monkeypatch.setattr(loop, "_finish_averaging", lambda started: [work.wait() for work in started])
        assert train(loop, 4) == alone
    finally:
        torch.distributed.destroy_process_group()
