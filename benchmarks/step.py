"""A training step of all sub-models, compared with the arithmetic that it needs."""

import argparse
import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from fastreid.config import CfgNode
from fastreid.engine.train_loop import AMPTrainer, SimpleTrainer
from fastreid.modeling.meta_arch import build_model
from fastreid.utils.events import EventStorage
from torch import Tensor
from torch.optim import Optimizer

from switchablecompat.aggregation import build_aggregation
from switchablecompat.config import load_config
from switchablecompat.engine import SwitchableTrainer
from switchablecompat.engine.certainty import ClassCertainty
from switchablecompat.engine.train_loop import SwitchableTrainLoop
from switchablecompat.errors import InputError
from switchablecompat.layers import shared_parameters
from switchablecompat.losses.distillation import distillation_loss
from switchablecompat.modeling import SwitchableBaseline, extract_submodel
from switchablecompat.modeling.meta_arch import PAIR_LOSSES

from .timing import Row, compare, compare_once, in_fresh_process, interleave, peak_memory

CLASSES = 751  # identities of Market-1501
Step = Callable[[], object]


def measure(arguments: argparse.Namespace) -> tuple[list[Row], dict[str, Any]]:
    """The step against the plain sub-models' arithmetic, projection against summation, and peak memory."""
    cfg = load(arguments.config_file, arguments.opts)
    rows = measure_steps(cfg, random_batch(cfg, arguments.batch), arguments.repeats)[0]
    peaks = {
        name: in_fresh_process(peak_of, name, cfg, arguments.batch, torch.get_num_threads())
        for name in ("switchable", "full")
    }
    m = len(cfg.MODEL.SWITCHABLE.WIDTHS)
    gradients = m * sum(p.parameter.numel() for p in shared_parameters(build_model(cfg))) * 4 / 2**20
    peer = f"a step of the full model alone, and {m} flat gradients"
    limit = peaks["full"] + gradients
    return [*rows, compare_once("peak memory of a step", peaks["switchable"], peer, limit, 1.10, "MiB")], {}


def measure_steps(
    cfg: CfgNode, batch: dict[str, Tensor], repeats: int, *, warm_up: int = 1, of: str = ""
) -> tuple[list[Row], dict[str, Step]]:
    """Measure a step against its limit and against plain summation; ``of`` starts the rows' names.

    Returns:
        The rows, and the steps by name: ``ours``, ``plain``, ``sum``.
    """
    steps: dict[str, Step] = {
        "ours": SwitchableStep(cfg, batch),
        "plain": IdealStep(cfg, batch),
        "sum": SwitchableStep(changed(cfg, "SOLVER.AGGREGATION.NAME", "sum"), batch),
    }
    seconds = interleave(steps, repeats, warm_up=warm_up)
    target = 1.05 if cfg.MODEL.DEVICE.startswith("cuda") else 1.10
    rows = [
        compare(f"{of}SFSC step", seconds, "ours", "plain", target, "plain sub-models, one after another"),
        compare(f"{of}projection", seconds, "ours", "sum", 1.03, "the same step with plain summation"),
    ]
    return rows, steps


def random_batch(cfg: CfgNode, size: int) -> dict[str, Tensor]:
    """Random images of the config's training size, four per identity."""
    images = torch.randint(0, 256, (size, 3, *cfg.INPUT.SIZE_TRAIN)).float().to(cfg.MODEL.DEVICE)
    return {"images": images, "targets": (torch.arange(size) // 4 % CLASSES).to(cfg.MODEL.DEVICE)}


def load(config_file: str, opts: Sequence[str]) -> CfgNode:
    """The config of a measurement: no pretrained weights, a fixed seed, and the CPU if there is no GPU."""
    fixed = ["MODEL.BACKBONE.PRETRAIN", "False", "MODEL.HEADS.NUM_CLASSES", str(CLASSES), "SEED", "0"]
    if not torch.cuda.is_available():
        fixed += ["MODEL.DEVICE", "cpu"]
    cfg = load_config(config_file, [*fixed, *opts])
    known = {"CompatibleLoss", "DistillationLoss", *PAIR_LOSSES}
    if other := sorted({*cfg.MODEL.LOSSES.NAME} - known):
        raise InputError("MODEL.LOSSES.NAME", f"must be of {sorted(known)} to be benchmarked", other[0])
    return cfg


def training_loop(
    cfg: CfgNode, model: SwitchableBaseline, loader: Iterable[dict[str, Tensor]], optimizer: Optimizer, **parts: Any
) -> SwitchableTrainLoop:
    """The plug-in's training loop without a trainer; ``parts`` as for ``SwitchableTrainLoop``."""
    autocast = _autocast(cfg)
    if autocast == torch.float16:
        inner = AMPTrainer(model, loader, optimizer, None, torch.amp.GradScaler("cuda"))
    else:
        inner = SimpleTrainer(model, loader, optimizer, None)
    certainty = ClassCertainty.from_config(cfg, model)
    return SwitchableTrainLoop(inner, build_aggregation(cfg, model), certainty=certainty, autocast=autocast, **parts)


class SwitchableStep:
    """One step of the plug-in's training loop, complete except for loading."""

    def __init__(self, cfg: CfgNode, batch: dict[str, Tensor]) -> None:
        torch.manual_seed(0)
        self.model: SwitchableBaseline = build_model(cfg)
        optimizer, _ = SwitchableTrainer.build_optimizer(cfg, self.model)
        self._loop = training_loop(cfg, self.model, itertools.repeat(batch), optimizer)
        self._storage = EventStorage(0)
        self._loop.iter = 0

    def __call__(self) -> None:
        with self._storage:
            self._loop.run_step()
        self._loop.iter += 1


class IdealStep:
    """The limit: forward and backward of every extracted plain sub-model, and the full model's optimiser step.

    It has the same batch, losses and precision, but no shared weights, aggregation or logging. The full model's
    optimiser step covers the narrower sub-models, because their parameters are slices of the full model's.
    """

    def __init__(self, cfg: CfgNode, batch: dict[str, Tensor]) -> None:
        torch.manual_seed(0)
        self.model: SwitchableBaseline = build_model(cfg)
        self.plain = [extract_submodel(self.model, width).train() for width in reversed(self.model.switch.widths)]
        self._neck: dict[str, Tensor] = {}  # what FastReID's head does not return with NECK_FEAT before
        for submodel in self.plain:
            submodel.heads.bottleneck.register_forward_hook(self._keep_neck)
        self._batch = batch
        self._optimizer, _ = SwitchableTrainer.build_optimizer(cfg, self.plain[0])
        self._autocast = _autocast(cfg)
        self._scaler = torch.amp.GradScaler("cuda") if self._autocast == torch.float16 else None

    def __call__(self) -> None:
        scaler, targets = self._scaler, self._batch["targets"]
        images, teacher = self.model.preprocess_image(self._batch), None
        for submodel in self.plain:
            submodel.zero_grad(set_to_none=True)
            with torch.autocast(images.device.type, self._autocast, enabled=self._autocast is not None):
                outputs = submodel.heads(submodel.backbone(images), targets) | self._neck
                loss = _loss(self.model, outputs, targets, teacher)
            teacher = teacher or {key: value.detach() for key, value in outputs.items()}
            (loss if scaler is None else scaler.scale(loss)).backward()
        if scaler is None:
            self._optimizer.step()
        else:
            scaler.step(self._optimizer)
            scaler.update()

    def _keep_neck(self, _module: object, _arguments: object, output: Tensor) -> None:
        self._neck = {"neck_features": output[..., 0, 0]}


def changed(cfg: CfgNode, *keys_and_values: Any) -> CfgNode:
    """A frozen copy of a config with other values."""
    cfg = cfg.clone()
    cfg.defrost()
    cfg.merge_from_list(list(keys_and_values))
    cfg.freeze()
    return cfg


def peak_of(name: str, cfg: CfgNode, size: int, threads: int) -> float:
    """Peak memory of the second step of ``switchable`` or ``full``, above that of model and optimiser, in MiB.

    The first step allocates what remains: the optimiser's state, and the aggregation's flat gradients, which are
    counted separately.
    """
    torch.set_num_threads(threads)
    batch = random_batch(cfg, size)
    losses = tuple(loss for loss in cfg.MODEL.LOSSES.NAME if loss != "DistillationLoss")
    alone = changed(cfg, "MODEL.SWITCHABLE.WIDTHS", [1.0], "MODEL.LOSSES.NAME", losses)
    step: Step = SwitchableStep(cfg, batch) if name == "switchable" else IdealStep(alone, batch)
    with peak_memory(cfg.MODEL.DEVICE) as peak:
        step()
        step()
    return peak.mib


def _loss(
    model: SwitchableBaseline, outputs: dict[str, Tensor], targets: Tensor, teacher: dict[str, Tensor] | None
) -> Tensor:
    """The losses of one sub-model; ``teacher`` is the full model's output, and None for the full model."""
    loss, *_ = model.compatible_loss(outputs["cls_outputs"], targets, teacher is None)
    if teacher and "DistillationLoss" in model.loss_kwargs["loss_names"]:
        node = model.loss_kwargs["ours"].DISTILL
        key = "pred_class_logits" if node.KIND == "logits" else "neck_features"
        own = distillation_loss(outputs[key], teacher[key], kind=node.KIND, temperature=node.TEMPERATURE)
        loss = loss + own * node.SCALE
    for name, (_, key, function) in PAIR_LOSSES.items():
        if name in model.loss_kwargs["loss_names"]:
            kwargs = model.loss_kwargs[key]
            loss = loss + function(outputs["features"], targets, kwargs) * kwargs["scale"]
    return loss


def _autocast(cfg: CfgNode) -> torch.dtype | None:
    """The number format of mixed precision, as in training; None without it."""
    dtype = getattr(torch, cfg.SOLVER.AMP.DTYPE) if cfg.SOLVER.AMP.ENABLED else None
    return None if dtype == torch.float16 and not cfg.MODEL.DEVICE.startswith("cuda") else dtype
