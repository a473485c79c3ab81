"""Run by test_two_processes: trainings of two processes and of one, which write what they saw.

A program of its own, because it forks: a test process whose autograd has started threads cannot.
"""

import argparse
import functools
import sys
from pathlib import Path

import switchablecompat  # noqa: F401  (before anything of FastReID)

# isort: split
import torch
from fastreid.data import CommDataset, build_reid_test_loader
from fastreid.data.transforms import build_transforms
from fastreid.engine import launch
from fastreid.utils import comm
from fastreid.utils.events import EventStorage
from torch import nn

from builders import TINY
from switchablecompat.engine import SwitchableTrainer, setup
from switchablecompat.engine.fused_optimizer import use_fused_kernels
from switchablecompat.engine.step_log import REPORT_EVERY
from switchablecompat.evaluation.features import extract_features

STEPS = 3
# TrainingSampler: FastReID's identity samplers draw other batches for two processes.
OPTIONS = (
    "SEED", "1", "DATALOADER.SAMPLER_TRAIN", "TrainingSampler", "SOLVER.BASE_LR", "0.02",
    "MODEL.LOSSES.NAME", "('CompatibleLoss', 'AsymmetricLoss')", "MODEL.LOSSES.ASYMMETRIC.TEACHER", "full",
)  # fmt: skip
SPOILED = ("plain", "scaled", "fused")


def observe(folder):
    """Run in each process: some steps of the real trainer, then an evaluation; all that was seen goes to a file."""
    torch.set_num_threads(1)
    output = str(folder / f"{comm.get_world_size()} processes")
    options = [*OPTIONS, "OUTPUT_DIR", output]
    cfg = setup(argparse.Namespace(config_file=TINY, opts=options, eval_only=False, resume=False))
    trainer = SwitchableTrainer(cfg)
    loop = trainer._trainer
    model, aggregation = loop.switchable, loop.aggregation
    seen = {"steps": [], "pids": trainer.data_loader.dataset.pid_dict, "images": []}

    aggregator = aggregation.aggregator

    def recording(grams, generator, factors):
        step = {"rows": [row.clone() for row in aggregation.bank.rows], "orders": generator.get_state()}
        step["weights"] = aggregator(grams, generator, factors)
        seen["steps"].append(step)
        return step["weights"]

    aggregation.aggregator = recording
    batches = loop._data_loader_iter

    def watched():
        for batch in batches:
            seen["images"].append(batch["img_paths"])
            yield batch

    loop._data_loader_iter = watched()
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    for iteration in range(STEPS):
        for norm in norms:  # frozen, so that a loss is a mean over the batch; in the last step they couple it
            norm.train(iteration == STEPS - 1)
        trainer.iter = iteration
        with EventStorage(iteration):
            trainer.run_step()
        seen["steps"][-1]["parameters"] = {name: p.detach().clone() for name, p in model.named_parameters()}

    items = [(path, number, 0) for number, (path, _, _) in enumerate(trainer.data_loader.dataset.img_items[:7])]
    for count in (7, 1):  # an odd number, and fewer than processes
        images = CommDataset(items[:count], build_transforms(cfg, is_train=False), relabel=False)
        loader, _ = build_reid_test_loader(images, 4, 1, 0)
        features = extract_features(model, loader)
        seen[f"test{count}"] = None if features is None else features.pids.tolist()
    torch.save(seen, folder / f"{comm.get_world_size()}-{comm.get_rank()}.pt")


def spoiled(folder, kind):
    """Run in each process: one step in which the second one's loss of the smallest sub-model is not a number.

    With a fused optimiser its gradient is finite, so that only the loss tells.
    """
    torch.set_num_threads(1)
    output = str(folder / f"spoiled {kind}")
    cfg = setup(
        argparse.Namespace(config_file=TINY, opts=[*OPTIONS, "OUTPUT_DIR", output], eval_only=False, resume=False)
    )
    trainer = SwitchableTrainer(cfg)
    loop = trainer._trainer
    if kind == "scaled":
        loop.grad_scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    if kind == "fused":
        use_fused_kernels(loop.optimizer)
        loop.log.every = REPORT_EVERY
    losses = loop.switchable.submodel_losses

    def submodel_losses(images, targets, index):
        values, diagnostics = losses(images, targets, index)
        if index == 0 and comm.get_rank() == 1:
            nan = float("nan")
            values = {key: value + nan if kind == "fused" else value * nan for key, value in values.items()}
        return values, diagnostics

    loop.switchable.submodel_losses = submodel_losses
    before = [p.detach().clone() for p in loop.switchable.parameters()]
    trainer.iter, said = 0, ""
    with EventStorage():
        try:
            trainer.run_step()
        except FloatingPointError as error:
            said = str(error)
    moved = sum(not torch.equal(p, q) for p, q in zip(loop.switchable.parameters(), before, strict=True))
    scale = loop.grad_scaler.get_scale() if kind == "scaled" else None
    torch.save((said, moved, scale), folder / f"{kind}-{comm.get_rank()}.pt")


if __name__ == "__main__":
    # Fork instead of spawn: no further imports of torch. The run of one process is the last, since it starts threads.
    torch.multiprocessing.spawn = functools.partial(torch.multiprocessing.start_processes, start_method="fork")
    to = Path(sys.argv[1])
    launch(observe, 2, dist_url="auto", args=(to,))
    for spoil in SPOILED:
        launch(spoiled, 2, dist_url="auto", args=(to, spoil))
    launch(observe, 1, args=(to,))
