"""What happens at the end of an epoch, in this order: its checkpoint, its evaluation, the best checkpoint so far."""

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
    """How many steps of the epoch in work are done; it goes into checkpoints, which FastReID counts in epochs."""

    def __init__(self) -> None:
        self.steps = 0

    def state_dict(self) -> dict[str, Any]:
        """The steps; 0 between two epochs."""
        return {"steps": self.steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from :meth:`state_dict`."""
        self.steps = state["steps"]


class EpochCheckpointer(HookBase):
    """The epoch's checkpoint, under FastReID's names, before anything that may fail; of the first process only.

    Args:
        checkpointer: Of the run.
        period: Epochs between two checkpoints. The last epoch always has one, and so has one whose evaluation is
            interrupted.
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
        """Write what a request to end finds, unless it is written already.

        Args:
            epoch: The last one that is complete; -1 for none.
        """
        if self._saved != epoch or self.trainer.progress.steps:
            self._save(INTERRUPTED, epoch)

    def _save(self, name: str, epoch: int) -> None:
        self._checkpointer.save(name, epoch=epoch)
        self._saved = epoch
        if name != INTERRUPTED and self._checkpointer.save_to_disk:
            Path(self._checkpointer.save_dir, f"{INTERRUPTED}.pth").unlink(missing_ok=True)


class EpochEvaluation(hooks.EvalHook):
    """FastReID's evaluation, of the last epoch too, which a request to end stops at once."""

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
    """``model_best``: of all epochs that were evaluated, the one with the best ``metric``.

    FastReID looks at epochs with a checkpoint only, and takes the newest metric for theirs.
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
        if newest:  # a later model_best takes the file's place, not that of the run's newest state
            self.checkpointer.tag_last_checkpoint(newest)
