"""How the cost grows: with the number of widths, with the gallery, with processes."""

from __future__ import annotations

import os
import time
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from fastreid.modeling.meta_arch import build_model
from torch.utils.flop_counter import FlopCounterMode

from ..modeling import SwitchableBaseline
from .training_step import SwitchableStep, random_batch


def with_widths(cfg, widths: list[float]):
    """The config with other widths."""
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.SWITCHABLE.WIDTHS = widths
    cfg.freeze()
    return cfg


def macs_of_all_widths(cfg) -> int:
    """Multiply-accumulates of one image through every sub-model."""
    model: SwitchableBaseline = build_model(cfg).eval()
    image = random_batch(cfg, 1)
    total = 0
    for index in range(len(model.switch)):
        with FlopCounterMode(display=False) as counter, torch.no_grad(), model.switch.use(index):
            model(image)
        total += counter.get_total_flops() // 2
    return total


def seconds_of_two_processes(cfg, size: int, steps: int) -> list[float]:
    """Seconds of each step when two processes of one thread each train ``size`` images each and average over gloo."""
    port = 20_000 + os.getpid() % 20_000
    with mp.get_context("spawn").Manager() as manager:
        found = manager.list()
        mp.spawn(_train, args=(cfg, size, steps, port, found), nprocs=2)
        return list(found)


def seconds_of_one_process(cfg, size: int, steps: int) -> list[float]:
    """Seconds of each step of one process of one thread."""
    with mp.get_context("spawn").Manager() as manager:
        found = manager.list()
        mp.spawn(_train, args=(cfg, size, steps, 0, found), nprocs=1)
        return list(found)


def _train(rank: int, cfg, size: int, steps: int, port: int, found: Any) -> None:
    import switchablecompat  # noqa: F401  (a spawned process starts here: shims first)

    torch.set_num_threads(1)
    if port:
        dist.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    torch.manual_seed(rank)
    step = SwitchableStep(cfg, random_batch(cfg, size))
    step()
    for _ in range(steps):
        start = time.perf_counter()
        step()
        if rank == 0:
            found.append(time.perf_counter() - start)
    if port:
        dist.destroy_process_group()
