"""Options of a step whose benefit depends on the machine, each against the defaults."""

import argparse
from collections.abc import Callable
from typing import Any

import torch
from fastreid.config import CfgNode
from fastreid.modeling.meta_arch import build_model

from switchablecompat.engine import SwitchableTrainer

from .step import SwitchableStep, changed, load, random_batch
from .timing import Row, compare, interleave

CHANNELS_LAST = ["MODEL.SWITCHABLE.CHANNELS_LAST", "True"]
BFLOAT16 = ["SOLVER.AMP.ENABLED", "True", "SOLVER.AMP.DTYPE", "bfloat16"]
OFF = ["MODEL.SWITCHABLE.CHANNELS_LAST", "False", "SOLVER.AMP.ENABLED", "False"]
CHOICES: dict[str, list[str]] = {
    "default": [],
    "channels last": CHANNELS_LAST,
    "bfloat16": BFLOAT16,
    "bfloat16, channels last": BFLOAT16 + CHANNELS_LAST,
}


def measure(arguments: argparse.Namespace) -> tuple[list[Row], dict[str, Any]]:
    """A step with each option against one without, and a fused optimiser against FastReID's."""
    cfg = load(arguments.config_file, arguments.opts)
    batch = random_batch(cfg, arguments.batch)
    tasks = {name: SwitchableStep(changed(cfg, *OFF, *opts), batch) for name, opts in CHOICES.items()}
    seconds = interleave(tasks, arguments.repeats)
    del tasks
    peer = "a float32 step, FastReID's memory format"
    rows = [compare(f"step, {name}", seconds, name, "default", None, peer) for name in list(CHOICES)[1:]]
    steps = {name: optimizer_step(cfg, fused=name == "fused") for name in ("default", "fused")}
    seconds = interleave(steps, 4 * arguments.repeats)
    peer = f"{cfg.SOLVER.OPT} as it is"
    return [*rows, compare("optimiser alone, fused", seconds, "fused", "default", None, peer)], {}


def optimizer_step(cfg: CfgNode, *, fused: bool) -> Callable[[], object]:
    """The optimiser's step alone, with random gradients, in PyTorch's fused form or as FastReID builds it."""
    model = build_model(cfg)
    optimizer, _ = SwitchableTrainer.build_optimizer(cfg, model)
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    if fused:
        for group in optimizer.param_groups:
            group.update(fused=True, foreach=False)
    return optimizer.step
