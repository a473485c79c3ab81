"""FastReID's DefaultTrainer for switchable models."""

import logging
import os
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import torch
from fastreid.config import CfgNode
from fastreid.data import build_reid_test_loader, build_reid_train_loader
from fastreid.data.build import _test_loader_from_config, _train_loader_from_config
from fastreid.engine import DefaultTrainer, SimpleTrainer, hooks
from fastreid.solver import build_optimizer
from fastreid.utils import comm
from fastreid.utils.checkpoint import Checkpointer
from torch import nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader

from ..aggregation import build_aggregation
from ..data.opening import fixed_split
from ..data.streams import EpochSampler, SeededImages
from ..evaluation.evaluator import evaluate_grid
from ..evaluation.grid import CompatibilityGrid
from ..evaluation.grid_files import render_summary, write_grid
from ..modeling import SwitchableBaseline
from ..modeling.checkpoint import check_same, load_as_start, read_checkpoint
from ..modeling.trained import run_record
from .certainty import ClassCertainty
from .checkpointer import SwitchableCheckpointer
from .epochs import run_epochs
from .fused_optimizer import fuse
from .hooks import BNCalibration, StartCalibration, SteadyLRScheduler, StepSeed, SwitchableLayerFreeze
from .interruption import Interruption
from .output_folder import set_grid_aside
from .priorities import UncertaintyPriorities
from .resume import check_state, follow_new_length
from .saving import EndOfEpoch, best_so_far
from .schedule_check import check_schedule
from .screen import EpochLine
from .step_plan import StepPlan
from .train_loop import SwitchableTrainLoop, unwrapped
from .training_set import check_reference_identities, training_set_record
from .trial_evaluation import try_evaluation
from .writers import JSONWriter, MetricPrinter, TensorboardWriter

logger = logging.getLogger("fastreid.switchablecompat.trainer")


class SwitchableTrainer(DefaultTrainer):
    """Trains all sub-models in one process and reports the m x m grid.

    FastReID builds model, loader, schedule, checkpoints and hooks. There are four differences. The inner loop trains
    one width at a time and aggregates the gradients. The optimiser works on the parameters instead of flat copies. BN
    calibration replaces PreciseBN. The evaluator computes the grid.
    """

    _trainer: SimpleTrainer
    checkpointer: Checkpointer

    def __init__(self, cfg: CfgNode) -> None:
        super().__init__(cfg)
        self.steps = 0  # finished steps of the current epoch
        model = unwrapped(self.model)
        aggregation = build_aggregation(self.cfg, model)
        priorities = UncertaintyPriorities(model.switch.names, self.cfg.MODEL.LOSSES.COMPAT.PRIORITY)
        certainty = ClassCertainty.from_config(self.cfg, model)
        self._trainer = SwitchableTrainLoop(
            self._trainer,
            aggregation,
            StepPlan.from_config(self.cfg, len(model.switch), self.max_iter),
            priorities,
            certainty,
            getattr(torch, self.cfg.SOLVER.AMP.DTYPE) if self.cfg.SOLVER.AMP.ENABLED else None,
            self.interruption,
        )
        self._trainer.log.epoch_length = self.iters_per_epoch
        self.checkpointer.checkpointables |= {"aggregation": aggregation, "priorities": priorities}
        if certainty is not None:
            self.checkpointer.checkpointables["certainty"] = certainty

    @classmethod
    def build_optimizer(cls, cfg: CfgNode, model: SwitchableBaseline) -> tuple[Optimizer, None]:
        """FastReID's optimiser on the parameters instead of flat copies.

        With FastReID's flat ``ContiguousParams``, weight decay would change private parameters of idle widths, and
        ``.grad`` would be bound to a buffer. For speed, groups of one parameter with equal options are merged.
        :class:`SwitchableLayerFreeze`, not the optimiser, handles frozen layers.
        """
        cfg = cfg.clone()
        cfg.defrost()
        cfg.MODEL.FREEZE_LAYERS = []
        optimizer, _ = build_optimizer(cfg, model, contiguous=False)
        merged: dict[tuple, dict] = {}
        for group in optimizer.param_groups:
            options = {key: value for key, value in group.items() if key != "params"}
            key = tuple(sorted((name, repr(value)) for name, value in options.items()))
            merged.setdefault(key, {**options, "params": []})["params"] += group["params"]
        optimizer.param_groups[:] = merged.values()
        fuse(optimizer)
        return optimizer, None

    @classmethod
    def build_lr_scheduler(cls, cfg: CfgNode, optimizer: Optimizer, iters_per_epoch: int) -> dict:
        """FastReID's schedule, if all counts fit the run's real length (:func:`~.schedule_check.check_schedule`)."""
        for line in check_schedule(cfg, iters_per_epoch):
            logger.warning(line)
        return super().build_lr_scheduler(cfg, optimizer, iters_per_epoch)

    def build_hooks(self) -> list[hooks.HookBase]:
        """FastReID's hooks. Ours replace those that handle only one width or one process."""
        model = unwrapped(self.model)
        if self.grad_scaler is not None and self.cfg.SOLVER.AMP.DTYPE == "bfloat16":  # bfloat16 has float32's range
            self._trainer.grad_scaler = None
        scaler = {} if self.grad_scaler is None else {"grad_scaler": self.grad_scaler}
        training_set = training_set_record(self._trainer.data_loader.dataset.img_items)
        check_reference_identities(self.cfg, training_set)
        record = run_record(self.cfg) | training_set
        self.checkpointer = SwitchableCheckpointer(self.checkpointer, record, **scaler)
        self.interruption = Interruption()
        ours: list[hooks.HookBase] = [StepSeed(self.cfg.SEED)]
        if self.cfg.MODEL.SWITCHABLE.SUBMODEL_START == "calibrated":
            batches = self.cfg.TEST.PRECISE_BN.NUM_ITER
            ours.append(StartCalibration(model, lambda: self.build_train_loader(self.cfg), batches))
        for hook in super().build_hooks():
            if isinstance(hook, hooks.LRScheduler):
                hook = SteadyLRScheduler(self.optimizer, self.scheduler)
            elif isinstance(hook, hooks.PreciseBN):
                hook = BNCalibration(model, hook._data_loader, hook._num_iter)
            elif isinstance(hook, hooks.LayerFreeze):
                hook = SwitchableLayerFreeze(model, hook.freeze_layers, hook.freeze_iters)
            elif isinstance(hook, hooks.EvalHook):
                hook = self.saving = EndOfEpoch(model, self.checkpointer, hook._func, self.interruption, self.cfg)
            elif isinstance(hook, hooks.PeriodicCheckpointer):
                continue
            ours.append(hook)
        return [*ours, EpochLine()]

    def resume_or_load(self, resume: bool = True) -> None:
        """Resume or load as FastReID does; ``model_best.pth`` stays the best over all parts of a run.

        If a file lacks tensors that matter, this is an error and not only a log line. :func:`~.setup.setup` has already
        compared the settings.

        Raises:
            InputError: The checkpoint to resume from has another model, optimiser or training set, or MODEL.WEIGHTS
                does not fit this backbone.
        """
        if not (resume and self.checkpointer.has_checkpoint()):
            if self.cfg.MODEL.WEIGHTS:
                load_as_start(self.checkpointer.model, self.cfg.MODEL.WEIGHTS)
            return
        path = self.checkpointer.get_checkpoint_file()
        content = read_checkpoint(path)
        check_state(content, path, self.data_loader.dataset.img_items, self.optimizer)
        check_same(self.checkpointer.model, path, content)
        schedule = self.scheduler["lr_sched"]
        periods = getattr(schedule, "T_max", None)
        super().resume_or_load(resume)
        fuse(self.optimizer)  # the checkpoint may come from a CPU
        follow_new_length(schedule, periods, (self.start_epoch, self.max_epoch))
        self.steps = content.get("progress", {"steps": 0})["steps"]  # not in model_best.pth, which ends an epoch
        # The loader has been reading the first epoch since it was built.
        self.data_loader.shutdown()
        sampler = self.data_loader.batch_sampler.sampler
        sampler.first_epoch, sampler.first_position = self.start_epoch, self.steps * self.cfg.SOLVER.IMS_PER_BATCH
        self._trainer._data_loader_iter = iter(self.data_loader)
        best = os.path.join(self.cfg.OUTPUT_DIR, "model_best.pth")
        if os.path.isfile(best):
            self.saving.best = best_so_far(best, self.cfg)

    def build_writers(self) -> list:
        """Writers for the screen, ``metrics.json`` and TensorBoard."""
        return [
            MetricPrinter(self.max_iter),
            JSONWriter(os.path.join(self.cfg.OUTPUT_DIR, "metrics.json")),
            TensorboardWriter(self.cfg.OUTPUT_DIR),
        ]

    @classmethod
    def build_train_loader(cls, cfg: CfgNode) -> DataLoader:
        """FastReID's training loader with :mod:`~switchablecompat.data.streams`, which depend only on the seed.

        Data sets also get ``manifest=cfg.DATASETS.MANIFEST``.
        """
        options = {"combineall": cfg.DATASETS.COMBINEALL, "manifest": cfg.DATASETS.MANIFEST}
        with fixed_split():
            plain = _train_loader_from_config(cfg, sampler=(), **options)["train_set"]
        # Sorted, because the order of files in a folder differs between machines.
        items = sorted(plain.img_items, key=lambda item: item[0])
        images = SeededImages(items, plain.transform, keep=cfg.DATALOADER.KEEP_IMAGES)
        args = _train_loader_from_config(cfg, train_set=images)
        batch = args["total_batch_size"]
        length = max(1, len(images) // batch) * batch  # as many iterations as FastReID counts in an epoch
        return build_reid_train_loader(**{**args, "sampler": EpochSampler(args["sampler"], cfg.SEED, length)})

    @classmethod
    def build_test_loader(cls, cfg: CfgNode, dataset_name: str) -> tuple[DataLoader, int]:
        """FastReID's test loader, with DATALOADER.NUM_WORKERS workers (upstream always starts four).

        All processes and all evaluations have the same items.
        """
        with fixed_split():
            args = _test_loader_from_config(cfg, dataset_name=dataset_name, manifest=cfg.DATASETS.MANIFEST)
        return build_reid_test_loader(**args, num_workers=cfg.DATALOADER.NUM_WORKERS)

    @classmethod
    def test(cls, cfg: CfgNode, model: nn.Module, record: Mapping[str, Any] | None = None) -> OrderedDict[str, Any]:
        """Evaluate on every test set; write grid.json, .csv, .md and .png into OUTPUT_DIR.

        The record is that of the run that trained the model. Default: the run that ``cfg`` describes. With one, a
        different grid that the folder has is moved into a numbered subfolder.

        Returns:
            Flat floats for FastReID's hooks: every cell, the full model's self-test under FastReID's names, and
            ``metric``, the mean of mAP and Rank-1 over all cells, which selects ``model_best``. Per data set if there
            are several. Empty on all ranks but the first.
        """
        model = unwrapped(model)
        results: OrderedDict[str, OrderedDict[str, float]] = OrderedDict()
        several = len(cfg.DATASETS.TESTS) > 1
        for dataset in cfg.DATASETS.TESTS:
            loader, num_query = cls.build_test_loader(cfg, dataset)
            grid = evaluate_grid(cfg, model, loader, num_query, dataset, record)
            if grid is None:
                continue
            stem = f"grid_{dataset}" if several else "grid"
            if record is not None:  # of a trained model: the folder may be another one's
                set_grid_aside(grid, cfg.OUTPUT_DIR, stem)
            files = write_grid(grid, cfg.OUTPUT_DIR, stem)
            logger.debug(f"{dataset}, mAP\n{render_summary(grid)}\nWritten: " + ", ".join(map(str, files)))
            logger.info(f"{dataset}: " + " ".join(grid.verdict().splitlines()[:2]))
            results[dataset] = _scalars(grid)
        if not comm.is_main_process():
            return OrderedDict()
        return results if several else next(iter(results.values()))

    def train(self) -> OrderedDict[str, Any]:
        """Train to MAX_EPOCH. A finished run is only evaluated again.

        Raises:
            InputError: The run would fail after the first epoch: in an evaluation, or because the disk is full.
            Terminated: SIGTERM has come. The run can resume at its last step.
        """
        try:
            if self.start_epoch >= self.max_epoch:
                logger.info(f"Training has already reached its last epoch ({self.max_epoch}); only evaluating")
                if not self.evaluation_was_ended():
                    return self.test(self.cfg, self.model, run_record(self.cfg))
            with self.interruption.watched():
                with self.interruption.at_once():
                    files = (self.max_epoch - self.start_epoch) // self.cfg.SOLVER.CHECKPOINT_PERIOD + 2  # best, final
                    self.checkpointer.prepare(files)
                    for dataset in self.cfg.DATASETS.TESTS:
                        images, num_query = self.build_test_loader(self.cfg, dataset)
                        try_evaluation(self.cfg, unwrapped(self.model), images.dataset, num_query, dataset)
                run_epochs(self)
            return self._last_eval_results
        finally:
            self.data_loader.shutdown()  # a loader thread that outlives the interpreter's CUDA context aborts it

    def evaluation_was_ended(self) -> bool:
        """Whether the checkpoint that this run continues ended an epoch whose evaluation was due but has not ended."""
        epoch = self.start_epoch - 1
        return epoch >= 0 and self.saving.was_ended(epoch, self.start_epoch * self.iters_per_epoch - 1)

    def save_interrupted(self, epoch: int) -> None:
        """Write and log a checkpoint for ``--resume``; ``epoch`` is the last complete one."""
        self.saving.save_interrupted(epoch)
        logger.warning(f"Asked to end (SIGTERM); --resume continues from {self.checkpointer.get_checkpoint_file()}")


def _scalars(grid: CompatibilityGrid) -> OrderedDict[str, float]:
    full = len(grid.widths) - 1
    own = {name: grid.values[name][full][full] for name in ("Rank-1", "Rank-5", "Rank-10", "mAP", "mINP")}
    scalars = OrderedDict((name, value) for name, value in own.items() if value is not None)  # small galleries
    cells = [v for name in ("mAP", "Rank-1") for row in grid.values[name] for v in row if v is not None]
    scalars["metric"] = sum(cells) / len(cells)
    scalars.update(grid.scalars())
    return scalars
