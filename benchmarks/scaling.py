"""Growth of the cost with the number of widths, the size of the gallery, and the number of processes."""

from __future__ import annotations

import os
import time
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from fastreid.config import CfgNode
from fastreid.modeling.meta_arch import build_model

from switchablecompat.deploy.files.graph import count_macs
from switchablecompat.modeling import SwitchableBaseline

from .training_step import SwitchableStep, random_batch


def macs_of_all_widths(cfg: CfgNode) -> int:
    """Multiply-accumulates for one image through every sub-model."""
    model: SwitchableBaseline = build_model(cfg).eval()
    image = random_batch(cfg, 1)["images"]
    total = 0
    for index in range(len(model.switch)):
        with model.switch.use(index):
            total += count_macs(model, image)
    return total


def seconds_of_steps(cfg: CfgNode, size: int, steps: int, processes: int) -> list[float]:
    """Seconds of each step if each process trains ``size`` images on one thread, and gloo averages the gradients."""
    port = 20_000 + os.getpid() % 20_000
    with mp.get_context("spawn").Manager() as manager:
        found = manager.list()
        mp.spawn(_train, args=(cfg, size, steps, processes, port, found), nprocs=processes)
        return list(found)


def _train(rank: int, cfg: CfgNode, size: int, steps: int, processes: int, port: int, found: Any) -> None:
    import switchablecompat  # noqa: F401  (a spawned process starts here: shims first)

    torch.set_num_threads(1)
    if processes > 1:
        dist.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=processes)
    torch.manual_seed(rank)
    step = SwitchableStep(cfg, random_batch(cfg, size))
    step()
    for _ in range(steps):
        start = time.perf_counter()
        step()
        if rank == 0:
            found.append(time.perf_counter() - start)
    if processes > 1:
        dist.destroy_process_group()
