"""End of an epoch, in this order: its checkpoint, its evaluation, the best checkpoint so far."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastreid.engine import hooks
from fastreid.engine.hooks import HookBase
from fastreid.utils.events import get_event_storage

from .checkpointer import SwitchableCheckpointer
from .interruption import Interruption, Terminated

INTERRUPTED = "model_interrupted"


class Progress:
    """Number of finished steps of the current epoch, for checkpoints. (FastReID counts only epochs.)"""

    def __init__(self) -> None:
        self.steps = 0

    def state_dict(self) -> dict[str, Any]:
        """The number of steps; 0 between two epochs."""
        return {"steps": self.steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore :meth:`state_dict`."""
        self.steps = state["steps"]


class EpochCheckpointer(HookBase):
    """Writes the epoch's checkpoint, under FastReID's names, before anything can fail; only in the first process.

    Args:
        checkpointer: Checkpointer of the run.
        period: Number of epochs between two checkpoints. The last epoch always has one, and so has an epoch whose
            evaluation is interrupted.
    """

    def __init__(self, checkpointer: SwitchableCheckpointer, period: int) -> None:
        self._checkpointer, self._period, self._saved = checkpointer, period, -1

    def after_epoch(self) -> None:
        epoch = self.trainer.epoch
        if epoch + 1 == self.trainer.max_epoch:
            self._save("model_final", epoch)
        elif (epoch + 1) % self._period == 0:
            self._save(f"model_{epoch:04d}", epoch)

    def save_interrupted(self, epoch: int) -> None:
        """Write a checkpoint of the current state, unless it exists already.

        Args:
            epoch: Last complete epoch; -1 for none.
        """
        if self._saved != epoch or self.trainer.progress.steps:
            self._save(INTERRUPTED, epoch)

    def _save(self, name: str, epoch: int) -> None:
        self._checkpointer.save(name, epoch=epoch)
        self._saved = epoch
        if name != INTERRUPTED and self._checkpointer.save_to_disk:
            Path(self._checkpointer.save_dir, f"{INTERRUPTED}.pth").unlink(missing_ok=True)


class EpochEvaluation(hooks.EvalHook):
    """FastReID's evaluation, also of the last epoch. A request to end stops it at once."""

    def __init__(self, plain: hooks.EvalHook, interruption: Interruption) -> None:
        super().__init__(plain._period, plain._func)
        self._interruption = interruption

    def after_epoch(self) -> None:
        done = self.trainer.epoch + 1
        if done % self._period and done != self.trainer.max_epoch:
            return
        try:
            with self._interruption.at_once():
                self._do_eval()
        except Terminated:
            self.trainer.save_interrupted(self.trainer.epoch)
            raise

    def after_train(self) -> None:
        del self._func  # FastReID evaluates here, also after an error in the last epoch


class BestCheckpointer(hooks.PeriodicCheckpointer):
    """Writes ``model_best``, the epoch with the best ``metric`` among all evaluated epochs.

    FastReID considers only epochs with a checkpoint, and uses the newest metric for them.
    """

    checkpointer: SwitchableCheckpointer
    best_metric: float

    def after_epoch(self) -> None:
        storage = get_event_storage()
        metric, iteration = storage.latest().get(self.metric_name, (-1, -1))
        if iteration != storage.iter or metric <= self.best_metric:
            return
        last = Path(self.checkpointer.save_dir, "last_checkpoint")
        newest = last.read_text() if last.is_file() else ""
        self.checkpointer.save("model_best", epoch=self.trainer.epoch, metric=metric)
        self.best_metric = metric
        if newest:  # a later model_best replaces this file, not the newest state of the run
            self.checkpointer.tag_last_checkpoint(newest)
