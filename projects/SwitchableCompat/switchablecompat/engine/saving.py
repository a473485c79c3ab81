"""End of an epoch, in this order: its checkpoint, its evaluation, the best checkpoint so far."""

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from fastreid.config import CfgNode
from fastreid.engine.hooks import HookBase
from fastreid.evaluation.testing import flatten_results_dict
from fastreid.utils import comm

from ..config import merge_kept
from ..modeling import SwitchableBaseline
from ..modeling.calibration import average_statistics
from ..modeling.checkpoint import RECORD_KEY, read_checkpoint
from ..settings import differences, flat_settings
from .checkpointer import SwitchableCheckpointer
from .interruption import Interruption, Terminated

logger = logging.getLogger("fastreid.switchablecompat.saving")

INTERRUPTED = "model_interrupted"
TESTS = ("DATASETS.TESTS", "TEST.FLIP.ENABLED", "TEST.GALLERY_DRAWS")  # which a run may change, and its metric with it


class EndOfEpoch(HookBase):
    """Checkpoint, evaluation and best checkpoint, under FastReID's names.

    FastReID evaluates first, so that an error or a request to end costs the epoch; it evaluates the last epoch
    whatever happened in it; and it takes the best of the epochs that have a checkpoint. Here the checkpoint comes
    first. The last epoch always has one, and so has an epoch whose evaluation is ended. ``model_best`` is of the epoch
    with the best ``metric`` of the first test set among all evaluated epochs.

    Before both, every process gets the same BN statistics. Otherwise each rank would extract its part of the test set
    with its own, and the checkpoint would contain only those of the first rank.

    Args:
        model: The switchable model (not its distributed wrapper).
        checkpointer: Checkpointer of the run.
        evaluate: Returns a nested dict of metrics, which is empty on all ranks but the first.
        interruption: Request to end the run. It stops an evaluation at once.
        cfg: Has the periods of checkpoints and evaluations.
    """

    def __init__(
        self,
        model: SwitchableBaseline,
        checkpointer: SwitchableCheckpointer,
        evaluate: Callable[[], dict[str, Any]],
        interruption: Interruption,
        cfg: CfgNode,
    ) -> None:
        self._model, self._checkpointer, self._evaluate = model, checkpointer, evaluate
        self._interruption, self._cfg = interruption, cfg
        self.best, self._saved = -1.0, -1

    def after_epoch(self) -> None:
        epoch = self.trainer.epoch
        last = epoch + 1 == self.trainer.max_epoch
        average_statistics(self._model)
        if last:
            self._save("model_final", epoch)
        elif (epoch + 1) % self._cfg.SOLVER.CHECKPOINT_PERIOD == 0:
            self._save(f"model_{epoch:04d}", epoch)
        if self._is_due(epoch):
            self._evaluate_epoch(epoch)

    def was_ended(self, epoch: int, iteration: int) -> bool:
        """Whether the evaluation after an epoch is due but ``metrics.json`` has none of its last iteration.

        The same in all processes.
        """
        path = Path(self._checkpointer.save_dir, "metrics.json")
        return comm.all_gather(self._is_due(epoch) and not _has_metric(path, iteration))[0]

    def make_up(self, epoch: int) -> None:
        """Evaluate the epoch whose checkpoint this run continues.

        Its last evaluation may have ended by an error that comes again: the run goes on after all but the last epoch.
        """
        logger.info(f"The evaluation after epoch {epoch} was ended; it comes first")
        self._saved = epoch
        try:
            self._evaluate_epoch(epoch)
        except Exception as error:
            if isinstance(error, Terminated) or epoch + 1 >= self.trainer.max_epoch:
                raise
            logger.warning(f"No evaluation after epoch {epoch}: {error}")

    def _is_due(self, epoch: int) -> bool:
        return epoch + 1 == self.trainer.max_epoch or (epoch + 1) % self._cfg.TEST.EVAL_PERIOD == 0

    def _evaluate_epoch(self, epoch: int) -> None:
        try:
            with self._interruption.at_once():
                metrics = flatten_results_dict(self._evaluate())
        except Terminated:
            self.trainer.save_interrupted(epoch)
            raise
        self.trainer.storage.put_scalars(**metrics, smoothing_hint=False)
        torch.cuda.empty_cache()
        comm.synchronize()
        if comm.is_main_process():
            self._keep_best(next(v for name, v in metrics.items() if name.endswith("metric")))

    def after_train(self) -> None:
        del self._evaluate  # it holds the trainer, which holds this

    def save_interrupted(self, epoch: int) -> None:
        """Write a checkpoint of the current state, unless it exists. ``epoch`` is the last whole one; -1 for none."""
        if self._saved != epoch or self.trainer.steps:
            self._save(INTERRUPTED, epoch)

    def _save(self, name: str, epoch: int) -> None:
        # Steps of the epoch that follows, which FastReID does not count.
        self._checkpointer.save(name, epoch=epoch, progress={"steps": self.trainer.steps})
        self._saved = epoch
        if name != INTERRUPTED and self._checkpointer.save_to_disk:
            Path(self._checkpointer.save_dir, f"{INTERRUPTED}.pth").unlink(missing_ok=True)

    def _keep_best(self, metric: float) -> None:
        if metric <= self.best:
            return
        last = Path(self._checkpointer.save_dir, "last_checkpoint")
        newest = last.read_text() if last.is_file() else ""
        self._checkpointer.save("model_best", epoch=self.trainer.epoch, metric=metric)
        self.best = metric
        if newest:  # a later model_best replaces this file, not the newest state of the run
            self._checkpointer.tag_last_checkpoint(newest)


def best_so_far(path: str, cfg: CfgNode) -> float:
    """The metric of a run's ``model_best.pth``; -1, with a warning, if it is of another test than that of ``cfg``."""
    content = read_checkpoint(path)
    kept = content.get(RECORD_KEY, {}).get("settings")
    if kept is not None:
        there, here = (flat_settings(config) for config in (merge_kept(kept, path), cfg))
        found = [one for one in differences(there, here) if one.key in TESTS]
        found = [one for one in found if one.key != TESTS[0] or one.there[:1] != one.here[:1]]  # the first one counts
        if found:
            logger.warning(f"{path} is the best by another test ({found[0]}): the best one is looked for anew")
            return -1.0
    return content.get("metric", -1.0)


def _has_metric(path: Path, iteration: int) -> bool:
    """Whether ``metrics.json`` has an evaluation after this iteration."""
    rows = map(json.loads, path.read_text(encoding="utf-8").splitlines()) if path.is_file() else ()
    return any(row["iteration"] == iteration and any(key.endswith("metric") for key in row) for row in rows)
