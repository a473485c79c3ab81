"""FastReID's loop over epochs and steps, extended to begin within an epoch and to end after any step."""

from __future__ import annotations

import logging
from contextlib import ExitStack
from typing import TYPE_CHECKING, NoReturn

from fastreid.engine.hooks import PeriodicWriter
from fastreid.utils import comm
from fastreid.utils.events import EventStorage

from ..errors import InputError
from ..modeling.calibration import average_statistics
from .interruption import Terminated
from .train_loop import NoBatchError

if TYPE_CHECKING:
    from .trainer import SwitchableTrainer

logger = logging.getLogger("fastreid.switchablecompat.trainer")


def run_epochs(trainer: SwitchableTrainer) -> None:
    """Train from the current step to the last epoch, with FastReID's hooks.

    Raises:
        Terminated: SIGTERM has come. A checkpoint of the last step is written.
    """
    length, first = trainer.iters_per_epoch, trainer.start_epoch
    trainer.iter = trainer.start_iter = first * length + trainer.steps
    within = f", step {trainer.steps}" if trainer.steps else ""
    logger.info(f"Starting training from epoch {first}{within}")
    whole, trainer.steps = not trainer.steps, 0
    with EventStorage(trainer.start_iter) as trainer.storage, ExitStack() as ending:
        trainer.before_train()
        ending.callback(trainer.after_train)  # however the training ends
        if comm.get_world_size() == 1:  # of several processes, only some may be here
            ending.callback(trainer._trainer.write_rest)
        try:
            if whole and trainer.evaluation_was_ended():
                _make_up(trainer, first - 1)
            for epoch in range(first, trainer.max_epoch):
                trainer.epoch = epoch
                trainer.before_epoch()
                while trainer.iter < (trainer.epoch + 1) * length:
                    trainer.before_step()
                    try:
                        trainer.run_step()
                    except NoBatchError:
                        if comm.get_world_size() > 1:  # other processes may still be in a step
                            raise
                        trainer._trainer.write_rest()  # no step has learnt of the request
                        _leave(trainer)
                    trainer.after_step()
                    trainer.iter += 1
                    if trainer._trainer.leaving:
                        _leave(trainer)
                trainer.after_epoch()
        except Exception as error:
            if not isinstance(error, InputError):  # which is reported in one line
                logger.exception("Exception during training:")
            raise


def _make_up(trainer: SwitchableTrainer, epoch: int) -> None:
    """Evaluate after the last epoch of an earlier part of the run, and log the result as that part would have."""
    trainer.epoch = trainer.storage.epoch = epoch
    trainer.storage.iter = trainer.start_iter - 1
    trainer.saving.make_up(epoch)
    for hook in trainer._hooks:
        if isinstance(hook, PeriodicWriter):
            hook.after_epoch()
    trainer.storage.iter = trainer.start_iter


def _leave(trainer: SwitchableTrainer) -> NoReturn:
    """Write a checkpoint of the steps so far, and end, in all processes together."""
    trainer.steps = trainer.iter - trainer.epoch * trainer.iters_per_epoch
    average_statistics(trainer._trainer.switchable)  # each process has its own until the end of the epoch
    trainer.save_interrupted(trainer.epoch - 1)
    comm.synchronize()  # when the first process ends, the launch ends the others
    raise Terminated
