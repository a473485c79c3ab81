"""Two processes with gloo, through FastReID's launch, against one process that has the whole batch."""

import argparse
import functools
import logging

import fastreid.data.build
import pytest
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
from switchablecompat.fastreid_shims.loading import use_cpu_loader

STEPS = 3
# TrainingSampler: FastReID's identity samplers draw other batches for two processes.
OPTIONS = ("SEED", "1", "DATALOADER.SAMPLER_TRAIN", "TrainingSampler", "SOLVER.BASE_LR", "0.02")
needs_cpu = pytest.mark.skipif(torch.cuda.is_available(), reason="gloo on the CPU; a GPU would be NCCL's")


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


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    """What the two processes saw, and what one alone saw."""
    folder, root = tmp_path_factory.mktemp("seen"), str(tmp_path_factory.mktemp("datasets"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FASTREID_DATASETS", root)
        patch.setattr(fastreid.data.build, "_root", root)  # read when it was imported
        # Fork instead of spawn: no second and third import of torch.
        fork = functools.partial(torch.multiprocessing.start_processes, start_method="fork")
        patch.setattr(torch.multiprocessing, "spawn", fork)
        launch(observe, 2, dist_url="auto", args=(folder,))
        launch(observe, 1, args=(folder,))
    use_cpu_loader(None)
    logging.getLogger("fastreid").handlers.clear()
    return [torch.load(folder / name, weights_only=False) for name in ("2-0.pt", "2-1.pt", "1-0.pt")]


@needs_cpu
@pytest.mark.timeout(240)
def test_identities_are_numbered_alike_and_images_are_shared_out(seen):
    first, second, alone = seen
    assert first["pids"] == second["pids"] == alone["pids"]
    for mine, yours, whole in zip(first["images"], second["images"], alone["images"], strict=True):
        assert len(mine) == len(yours) == 8
        assert [path for pair in zip(mine, yours, strict=True) for path in pair] == whole


@needs_cpu
def test_processes_agree_bit_for_bit_on_gradients_orders_weights_and_parameters(seen):
    first, second, _ = seen
    assert len(first["steps"]) == STEPS
    for one, other in zip(first["steps"], second["steps"], strict=True):
        assert torch.equal(one["orders"], other["orders"])
        assert torch.equal(one["weights"], other["weights"])
        assert all(torch.equal(a, b) for a, b in zip(one["rows"], other["rows"], strict=True))
        assert all(torch.equal(value, other["parameters"][name]) for name, value in one["parameters"].items())


@needs_cpu
def test_twice_half_a_batch_is_once_a_batch(seen):
    """Each width's gradient is the mean over the processes before the Gram matrices; float32 sums in another order."""
    first, _, alone = seen
    for step, (both, one) in enumerate(zip(first["steps"][: STEPS - 1], alone["steps"], strict=False)):
        assert torch.equal(both["orders"], one["orders"])
        for row, whole in zip(both["rows"], one["rows"], strict=True):
            assert (row - whole).norm() <= 1e-5 * whole.norm(), step
        for name, value in both["parameters"].items():
            torch.testing.assert_close(value, one["parameters"][name], atol=1e-6, rtol=1e-5, msg=name)


@needs_cpu
def test_an_evaluation_sees_every_image_once(seen):
    first, second, alone = seen
    for count in (7, 1):
        assert first[f"test{count}"] == alone[f"test{count}"] == list(range(count))
        assert second[f"test{count}"] is None


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
    torch.save((said, moved, scale), folder / f"spoiled-{comm.get_rank()}.pt")


@needs_cpu
@pytest.mark.timeout(240)
@pytest.mark.parametrize("kind", ["plain", "scaled", "fused"])
def test_all_processes_end_alike_where_one_loss_is_not_a_number(seen, tmp_path, kind, monkeypatch):
    """By one and the same error, so that none waits for the other; or by skipping the step, all together."""
    fork = functools.partial(torch.multiprocessing.start_processes, start_method="fork")
    monkeypatch.setattr(torch.multiprocessing, "spawn", fork)
    launch(spoiled, 2, dist_url="auto", args=(tmp_path, kind))
    logging.getLogger("fastreid").handlers.clear()
    first, second = (torch.load(tmp_path / f"spoiled-{rank}.pt") for rank in range(2))
    assert first == second
    said, moved, scale = first
    assert moved == 0
    assert scale == (512 if kind == "scaled" else None)
    assert said.startswith("iteration 0: loss_compat_w025 is nan (beside " if kind == "plain" else "")
    assert bool(said) is (kind == "plain")
