"""A step asks the device for nothing: on the meta device, which has no numbers to give, every question is an error.

What the meta device cannot refuse, a tensor of the CPU among its own (on a GPU a copy that waits), is looked for in
every operation.
"""

import contextlib
import copy

import pytest
import torch
from fastreid.engine.train_loop import SimpleTrainer
from fastreid.modeling.meta_arch import build_model
from fastreid.utils.events import EventStorage
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from builders import Same, batch, tiny_config
from switchablecompat.aggregation import build_aggregation
from switchablecompat.engine import SwitchableTrainLoop
from switchablecompat.engine.certainty import ClassCertainty
from switchablecompat.engine.fused_optimizer import use_fused_kernels
from switchablecompat.engine.priorities import UncertaintyPriorities
from switchablecompat.engine.step_log import StepLog
from switchablecompat.engine.step_plan import StepPlan

READS = {"_local_scalar_dense", "nonzero", "is_nonzero", "masked_select", "unique2", "equal", "bincount"}
METHODS = ("tolist", "item", "cpu", "numpy", "__bool__", "__float__", "__int__", "__index__")


class Questions(TorchDispatchMode):
    """Operations that make a GPU's host wait: what reads a number, and what copies between CPU and device."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
        out = function(*args, **kwargs)
        name = function.overloadpacket.__name__
        everything = [*tensors, *(x for x in tree_leaves(out) if isinstance(x, torch.Tensor))]
        kinds = {x.device.type for x in everything}
        scalars = all(x.device.type != "cpu" or x.dim() == 0 for x in tensors) and "copy" not in name
        indices = tree_leaves(args[1]) if name in ("index", "index_put", "index_put_") else []
        mask = any(isinstance(x, torch.Tensor) and x.dtype == torch.bool for x in indices)
        if (len(kinds) > 1 and not scalars) or mask or (name in READS and kinds != {"cpu"}):
            self.found.append(f"{name} {[(x.device.type, tuple(x.shape)) for x in tensors]}")
        return out


class Readings(TorchFunctionMode):
    """Methods of a tensor that give numbers to Python, whatever the device, and numbers that are assigned to elements:
    they go through a tensor of the CPU, unseen by any device but a GPU.
    """

    def __init__(self):
        super().__init__()
        self.count, self.assigned = 0, []

    def __torch_function__(self, function, types, args=(), kwargs=None):
        name = getattr(function, "__name__", "")
        self.count += name in METHODS
        if name == "__setitem__" and not isinstance(args[2], torch.Tensor):
            self.assigned.append(f"{tuple(args[0].shape)}[{args[1]}] = {args[2]}")
        return function(*args, **(kwargs or {}))


def make(device, log, *opts):
    cfg = tiny_config(*opts)
    model = build_model(cfg).to(device)
    data = {key: value.to(device) for key, value in batch(8).items()}
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    if log.every > 1 and device == "cpu":
        use_fused_kernels(optimizer)
    inner = SimpleTrainer(model, Same(data), optimizer, None)
    plan = StepPlan.from_config(cfg, len(model.switch), 100)
    priorities = UncertaintyPriorities(model.switch.names, cfg.MODEL.LOSSES.COMPAT.PRIORITY)
    certainty = ClassCertainty.from_config(cfg, model)
    loop = SwitchableTrainLoop(inner, build_aggregation(cfg, model), plan, priorities, certainty, log=log)
    loop.iter = 0
    return loop


CE = ("MODEL.LOSSES.COMPAT.KIND", "ce")
SOFT = ("MODEL.LOSSES.NAME", "('CompatibleLoss','TripletLoss')", "MODEL.LOSSES.TRI.MARGIN", 0.0)
RECIPES = {
    "sfsc": (),
    "sfsc, paper": ("MODEL.LOSSES.COMPAT.PRESET", "paper", "SOLVER.AGGREGATION.SUPPORT", "full"),
    "certain": ("MODEL.SWITCHABLE.CLASSIFIER_GRAD", "certain", "SOLVER.AGGREGATION.MEMORY", 0.9),
    "certain, mean": ("MODEL.SWITCHABLE.CLASSIFIER_GRAD", "certain", "SOLVER.AGGREGATION.MEAN", "all"),
    "agreement": ("MODEL.LOSSES.NAME", "('CompatibleLoss','DistillationLoss')"),
    "protected": ("SOLVER.AGGREGATION.PROTECT", "full"),
    "drawn": ("MODEL.SWITCHABLE.SANDWICH", 1, "MODEL.SWITCHABLE.SLOW_START", 0.5),
    "priorities": ("MODEL.LOSSES.COMPAT.PRIORITY", 1.0),
    "bct_s": ("MODEL.LOSSES.COMPAT.KIND", "ce", "SOLVER.AGGREGATION.NAME", "sum"),
    "bct_s, soft triplet": ("MODEL.LOSSES.COMPAT.KIND", "ce", *SOFT),
    **{kind: (*CE, "MODEL.HEADS.CLS_LAYER", kind) for kind in ("CosSoftmax", "ArcSoftmax", "CircleSoftmax")},
    "adaptive smoothing": ("MODEL.LOSSES.COMPAT.KIND", "ce", "MODEL.LOSSES.CE.EPSILON", -1.0),
}


@pytest.mark.parametrize("name", RECIPES)
def test_a_step_that_reports_nothing_never_waits_for_the_device(name, monkeypatch):
    monkeypatch.setattr(torch, "autocast", lambda *args, **kwargs: contextlib.nullcontext())  # meta has none
    loop = make("meta", StepLog(every=10), *RECIPES[name])
    # the fused kernel has no meta form; what it is given does
    monkeypatch.setattr("switchablecompat.engine.train_loop.step_if", lambda optimizer, finite: optimizer.step())
    with EventStorage(), Questions() as questions, Readings() as readings:
        loop.run_step()  # brings what begins on the CPU to the device
        questions.found.clear()
        before = readings.count
        loop.iter = 1
        loop.run_step()
    assert questions.found == readings.assigned == []
    on_host = readings.count - before  # of tensors that live on the CPU: random orders and sub-models
    assert on_host <= 4 + 2 * len(loop.switchable.switch)


def test_the_meta_device_refuses_what_a_gpu_would_wait_for():
    x = torch.ones(3, device="meta")
    for question in (lambda: x.sum().item(), lambda: bool(x.any()), lambda: x.tolist(), lambda: float(x[0])):
        with pytest.raises((RuntimeError, NotImplementedError)):
            question()
    with pytest.raises((RuntimeError, NotImplementedError)):
        x.nonzero()
    with Questions() as questions:
        x[torch.tensor([0, 1])]
        torch.ones(3).to("meta")
    assert [line.split()[0] for line in questions.found] == ["index", "_to_copy"]


def test_one_copy_brings_the_numbers_of_all_steps_since_the_last(monkeypatch):
    reads = []
    original = torch.Tensor.tolist
    monkeypatch.setattr(torch.Tensor, "tolist", lambda self: reads.append(self.numel()) or original(self))
    loop = make("cpu", StepLog(every=4, epoch_length=6), "SOLVER.AGGREGATION.NAME", "sum")
    counts = []
    with EventStorage() as storage:
        for loop.iter in range(12):
            storage.iter = loop.iter
            before = len(reads)
            loop.run_step()
            counts.append(len(reads) - before - on_cpu(reads[before:]))
        history = storage.history("total_loss").values()
    assert [index for index, count in enumerate(counts) if count] == [3, 5, 7, 11]
    assert {*counts} == {0, 1}
    assert [iteration for _, iteration in history] == [*range(12)]


def on_cpu(sizes):
    """How many of the readings were of the random orders of the projection, which are made on the CPU."""
    return sum(size <= 16 for size in sizes)


def test_the_log_holds_what_a_log_that_is_read_in_every_step_holds():
    logs = []
    for log in (StepLog(), StepLog(every=5)):
        torch.manual_seed(0)
        loop = make("cpu", log)
        with EventStorage() as storage:
            for loop.iter in range(10):
                storage.iter = loop.iter
                loop.run_step()
        logs.append({key: h.values() for key, h in storage.histories().items() if key != "data_time"})
        last = copy.deepcopy(loop.model.state_dict())
    assert logs[0].keys() == logs[1].keys()
    for key, values in logs[0].items():
        assert [i for _, i in values] == [i for _, i in logs[1][key]] == [*range(10)]
        # fused and plain optimiser round differently, and ten steps carry that on
        assert [v for v, _ in values] == pytest.approx([v for v, _ in logs[1][key]], rel=0.05, abs=0.05), key
    assert all(value.isfinite().all() for value in last.values())


def test_a_nan_between_two_readings_changes_nothing_and_is_told_with_its_own_iteration(monkeypatch):
    loop = make("cpu", StepLog(every=4))
    original = loop.model.submodel_losses

    def spoiled(images, targets, index):
        losses, diagnostics = original(images, targets, index)
        if loop.iter == 1 and index == 0:
            losses = {key: loss * float("nan") for key, loss in losses.items()}
        return losses, diagnostics

    monkeypatch.setattr(loop.model, "submodel_losses", spoiled)
    with EventStorage():
        loop.run_step()
        before = [p.detach().clone() for p in loop.model.parameters()]
        loop.iter = 1
        loop.run_step()
        assert all(torch.equal(p, q) for p, q in zip(loop.model.parameters(), before, strict=True))
        loop.iter = 2
        loop.run_step()
        assert not all(torch.equal(p, q) for p, q in zip(loop.model.parameters(), before, strict=True))
        loop.iter = 3
        with pytest.raises(FloatingPointError, match=r"^iteration 1: loss_compat_w025 is nan"):
            loop.run_step()
