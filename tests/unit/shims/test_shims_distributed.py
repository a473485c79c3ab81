"""Two processes on the CPU through FastReID's own ``launch``."""

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from fastreid.engine import defaults, launch
from fastreid.utils import comm
from torch import nn

from switchablecompat.fastreid_shims.distributed import CpuAwareDataParallel, cpu_worker

needs_cpu = pytest.mark.skipif(torch.cuda.is_available(), reason="FastReID's own launch serves machines with CUDA")


def reduce_and_train(folder: str) -> None:
    """Run in each process: an all-reduce, a gather, and one DDP step whose gradient is the mean over ranks."""
    rank = comm.get_rank()
    total = torch.tensor([float(rank + 1)])
    dist.all_reduce(total)
    gathered = comm.gather({"rank": rank, "text": "x" * (rank + 1)}, dst=0)
    model = nn.Linear(1, 1, bias=False)
    parallel = defaults.DistributedDataParallel(model, device_ids=[comm.get_local_rank()], broadcast_buffers=False)
    parallel(torch.tensor([[float(rank)]])).sum().backward()
    seen = {
        "total": total.item(),
        "gathered": gathered,
        "gradient": model.weight.grad.item(),
        "local": (comm.get_local_rank(), comm.get_local_size()),
        "threads": torch.get_num_threads(),
    }
    torch.save(seen, f"{folder}/{rank}.pt")


def fail(rank: int) -> None:
    if comm.get_rank() == rank:
        raise ValueError("planted in one process")
    dist.barrier()


@needs_cpu
@pytest.mark.slow
@pytest.mark.timeout(180)
def test_two_processes(tmp_path: Path) -> None:
    launch(reduce_and_train, 2, dist_url="auto", args=(str(tmp_path),))
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    assert first["total"] == second["total"] == 3
    assert first["gathered"] == [{"rank": 0, "text": "x"}, {"rank": 1, "text": "xx"}]
    assert first["gradient"] == second["gradient"] == 0.5
    assert (first["local"], second["local"]) == ((0, 2), (1, 2))


@needs_cpu
@pytest.mark.slow
@pytest.mark.timeout(180)
def test_an_error_in_one_process_is_the_one_reported() -> None:
    with pytest.raises(torch.multiprocessing.ProcessRaisedException, match="planted in one process"):
        launch(fail, 2, dist_url="auto", args=(1,))


def test_one_process_is_called_directly() -> None:
    seen = []
    launch(seen.append, 1, args=(5,))
    assert seen == [5]


@pytest.fixture
def single_process() -> None:
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.usefixtures("single_process")
def test_buffers_are_not_synchronised_in_forward() -> None:
    model = CpuAwareDataParallel(nn.BatchNorm1d(2), device_ids=[0], broadcast_buffers=False)
    assert not model.broadcast_buffers
    assert model.device_ids is None


def test_worker_shares_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    threads = []
    for name in ("init_process_group", "new_group", "destroy_process_group"):
        monkeypatch.setattr(dist, name, lambda *args, **kwargs: None)
    monkeypatch.setattr(comm, "_LOCAL_PROCESS_GROUP", None)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    monkeypatch.setattr(torch, "set_num_threads", threads.append)
    cpu_worker(0, lambda: None, 3, 3, 0, "unused", ())
    assert threads == [2]
