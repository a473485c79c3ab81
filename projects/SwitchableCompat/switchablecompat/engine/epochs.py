"""The loop over epochs and steps: FastReID's, which can begin within an epoch and end after any step."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, NoReturn

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
    """Train from where the run stands to its last epoch, with FastReID's hooks.

    Raises:
        Terminated: The run was asked to end; a checkpoint of its last step is written.
    """
    length, first = trainer.iters_per_epoch, trainer.start_epoch
    trainer.iter = trainer.start_iter = first * length + trainer.progress.steps
    within = f", step {trainer.progress.steps}" if trainer.progress.steps else ""
    logger.info(f"Starting training from epoch {first}{within}")
    if trainer.progress.steps == length:  # torch warns where a schedule moves before the optimiser of this process
        trainer._trainer.optimizer._opt_called = True
    trainer.progress.steps = 0
    with EventStorage(trainer.start_iter) as trainer.storage:
        try:
            trainer.before_train()
            for epoch in range(first, trainer.max_epoch):
                trainer.epoch = epoch
                trainer.before_epoch()
                while trainer.iter < (trainer.epoch + 1) * length:
                    trainer.before_step()
                    try:
                        trainer.run_step()
                    except NoBatchError:
                        if comm.get_world_size() > 1:  # the other processes may be in a step
                            raise
                        _leave(trainer)
                    trainer.after_step()
                    trainer.iter += 1
                    if trainer._trainer.leaving:
                        _leave(trainer)
                trainer.after_epoch()
        except InputError:  # one line says it
            raise
        except Exception:
            logger.exception("Exception during training:")
            raise
        finally:
            trainer.after_train()


def _leave(trainer: SwitchableTrainer) -> NoReturn:
    """Write what the steps so far have made, and end, all processes together."""
    trainer.progress.steps = trainer.iter - trainer.epoch * trainer.iters_per_epoch
    if comm.get_world_size() > 1:
        average_statistics(trainer._trainer.switchable)  # each process has its own until the end of the epoch
    trainer.save_interrupted(trainer.epoch - 1)
    comm.synchronize()  # the launch ends all that are left when the first one ends
    raise Terminated
