"""Losses and diagnostics of training steps, kept on the device until they are read."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from fastreid.utils import comm
from fastreid.utils.events import get_event_storage
from torch import Tensor

REPORT_EVERY = 20  # steps between two readings on a GPU; FastReID's writers smooth over as many
LEAST_SCALE = 2.0**-14  # thirty halvings below GradScaler's initial factor, one per step that overflowed


class Step(NamedTuple):
    """One step, on the host."""

    iteration: int  # of the training
    stored: int  # iteration of FastReID's EventStorage
    data_time: float  # seconds that the step waited for its batch
    losses: dict[str, float]
    scalars: dict[str, float]  # diagnostics
    scale: float  # the gradient scaler's factor; 0 without a scaler


class StepLog:
    """Collects each step's scalars as tensors, and reads those of several steps with one copy from the device.

    Reading a number from a GPU waits for all its queued work. So on a GPU the log is read every :data:`REPORT_EVERY`
    steps and at the end of an epoch. On a CPU reading costs nothing, so the log is read in every step.

    Args:
        every: Steps between two readings.
        epoch_length: Steps per epoch; 0 if unknown.
    """

    def __init__(self, every: int = 1, epoch_length: int = 0) -> None:
        self.every, self.epoch_length = every, epoch_length
        self._pending: list[tuple[tuple[int, int, float], list[str], list[str], Tensor]] = []

    def due(self, iteration: int) -> bool:
        """Whether the log is read after this step."""
        done = iteration + 1
        return done % self.every == 0 or (self.epoch_length > 0 and done % self.epoch_length == 0)

    def add(
        self,
        iteration: int,
        data_time: float,
        losses: Mapping[str, Tensor],
        scalars: Mapping[str, Tensor],
        scale: Tensor | None,
    ) -> Tensor:
        """Store a step's scalars, tensors of one element each, on the device.

        Args:
            iteration: Iteration of the training.
            data_time: Seconds that the step waited for its batch.
            losses: Losses by name.
            scalars: Diagnostics by name.
            scale: The gradient scaler's factor, which may skip the step; None without a scaler.

        Returns:
            Whether losses and ``grad_norm_*`` are finite, one bool on the device.
        """
        values = [value.detach().double().reshape(()) for value in (*losses.values(), *scalars.values())]
        norms = [value for name, value in zip(scalars, values[len(losses) :], strict=True) if _is_norm(name)]
        checked = torch.stack([*values[: len(losses)], *norms])
        factor = torch.zeros_like(values[0]) if scale is None else scale.detach().to(values[0]).reshape(())
        when = (iteration, get_event_storage().iter, data_time)
        self._pending.append((when, [*losses], [*scalars], torch.stack([*values, factor])))
        return checked.isfinite().all()

    def take(self) -> list[Step]:
        """Return all stored steps with values on the host, by one copy, and empty the log."""
        pending, self._pending = self._pending, []
        values = iter(torch.cat([flat for *_, flat in pending]).tolist() if pending else ())
        return [
            Step(*when, {name: next(values) for name in losses}, {name: next(values) for name in scalars}, next(values))
            for when, losses, scalars, _ in pending
        ]


def write_steps(of_ranks: Sequence[Sequence[Step]]) -> None:
    """Write steps to FastReID's EventStorage: losses as means over the processes, diagnostics of the first process.

    Args:
        of_ranks: The same steps of every process, from :meth:`StepLog.take`; this process's are at its rank.

    Raises:
        FloatingPointError: A loss or a gradient is infinite or not a number, and no scaler skipped the step. The
            message names it and the iteration.
    """
    for steps in zip(*of_ranks, strict=True):
        own = steps[comm.get_rank()]
        losses = {name: sum(step.losses[name] for step in steps) / len(steps) for name in own.losses}
        if own.scale < LEAST_SCALE:
            _refuse_non_finite(losses, own.iteration)
            _refuse_non_finite({key: value for key, value in own.scalars.items() if _is_norm(key)}, own.iteration)
        if comm.is_main_process():
            named = {"total_loss": sum(losses.values()), **(losses if len(losses) > 1 else {}), **own.scalars}
            finite = {key: value for key, value in named.items() if math.isfinite(value)}
            storage = get_event_storage()
            now, storage.iter = storage.iter, own.stored
            storage.put_scalars(data_time=max(step.data_time for step in steps), **finite)
            storage.iter = now


def _is_norm(name: str) -> bool:
    return name.startswith("grad_norm")


def _refuse_non_finite(named: Mapping[str, float], iteration: int) -> None:
    bad = [f"{name} is {value}" for name, value in named.items() if not math.isfinite(value)]
    if bad:
        good = [f"{name} {value:.4g}" for name, value in named.items() if math.isfinite(value)]
        beside = f" (beside {', '.join(good)})" if good else ""
        raise FloatingPointError(f"iteration {iteration}: {', '.join(bad)}{beside}")
