"""Growth of the cost with the number of widths, the size of the gallery, and the number of processes."""

import argparse
import dataclasses
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from fastreid.config import CfgNode
from fastreid.modeling.meta_arch import build_model

from switchablecompat.deploy.files.graph import count_macs
from switchablecompat.modeling import SwitchableBaseline

from . import grid
from .aggregation import widths_of
from .report import draw_growth
from .step import SwitchableStep, changed, load, random_batch
from .timing import Row, compare, compare_once, interleave


def measure(arguments: argparse.Namespace) -> tuple[list[Row], dict[str, Any]]:
    """Each cost against the cost of a smaller case, times the growth of the arithmetic."""
    cfg, rows = load(arguments.config_file, arguments.opts), []
    batch = random_batch(cfg, arguments.batch)
    configs = {m: changed(cfg, "MODEL.SWITCHABLE.WIDTHS", widths_of(m)) for m in (1, 2, 4, 8)}
    macs = {m: macs_of_all_widths(one) for m, one in configs.items()}
    tasks = {str(m): SwitchableStep(one, batch) for m, one in configs.items()}
    seconds = interleave(tasks, arguments.repeats)
    del tasks
    for m in (2, 4, 8):
        scaled = {**seconds, "macs": seconds["1"] * macs[m] / macs[1]}
        peer = f"one width's step x {macs[m] / macs[1]:.2f} (multiply-accumulates)"
        rows.append(compare(f"step of {m} widths", scaled, str(m), "macs", None, peer))
    sizes = (10_000, 20_000, 40_000, 80_000)  # about 20 positives per query at every size
    galleries = {str(size): grid.ours(grid.random_task(1000, size, size // 20, 512, 1)) for size in sizes}
    seconds = interleave(galleries, arguments.repeats)
    series = {size: float(np.median(seconds[str(size)])) for size in sizes}
    growth = sizes[-1] / sizes[0]
    seconds["linear"] = seconds[str(sizes[0])] * growth
    peer = f"a gallery {growth:g} times smaller, x {growth:g}"
    rows.append(compare("a cell, 1,000 queries, 80,000 gallery items", seconds, str(sizes[-1]), "linear", None, peer))
    task = grid.random_task(1000, 20_000, 1000, 512, 4)
    one = dataclasses.replace(task, query=task.query[:1], gallery=task.gallery[:1])
    seconds = interleave({"m": grid.ours(task), "one": grid.ours(one)}, arguments.repeats)
    seconds["linear"] = 16 * seconds["one"]
    rows.append(compare("4 x 4 grid, 1,000 queries", seconds, "m", "linear", None, "one cell x 16"))
    if arguments.output:
        draw_growth(series, Path(arguments.output) / "gallery.png")
    if not cfg.MODEL.DEVICE.startswith("cuda"):
        alone, two = (min(seconds_of_steps(cfg, arguments.batch, arguments.repeats, count)) for count in (1, 2))
        peer = "one process, one thread, half the images"
        rows.append(compare_once("step of two processes, one thread each", two, peer, alone))
    return rows, {"macs": macs, "seconds_of_a_cell_by_gallery": series}


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
