"""Losses and diagnostics of training steps, kept on the device until they are read."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from fastreid.utils import comm
from fastreid.utils.events import get_event_storage
from torch import Tensor

REPORT_EVERY = 20  # steps between two readings on a GPU; FastReID's writers smooth over as many
LEAST_SCALE = 2.0**-14  # thirty halvings below GradScaler's initial factor, one per step that overflowed


@dataclass(frozen=True)
class _Step:
    """One step: names of its losses and diagnostics, and all their values.

    Attributes:
        iteration: Iteration of the training.
        stored: Iteration of FastReID's EventStorage.
        data_time: Seconds that the step waited for its batch.
        losses: Names of the losses.
        scalars: Names of the diagnostics.
        values: Values of the losses and the diagnostics, then the scaler's factor (0 without a scaler), float64.
    """

    iteration: int
    stored: int
    data_time: float
    losses: tuple[str, ...]
    scalars: tuple[str, ...]
    values: Any

    def split(self) -> tuple[dict[str, float], dict[str, float], float]:
        """Losses and diagnostics by name, and the scaler's factor, from values on the host."""
        count = len(self.losses)
        losses = dict(zip(self.losses, self.values[:count], strict=True))
        return losses, dict(zip(self.scalars, self.values[count:-1], strict=True)), self.values[-1]


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
        self._pending: list[_Step] = []

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
            scalars: Diagnostics by name; ``grad_norm_*`` must be finite, like losses.
            scale: The gradient scaler's factor, which may skip the step; None without a scaler.

        Returns:
            Whether losses and gradient norms are finite, one bool on the device.
        """
        values = [value.detach().double().reshape(()) for value in (*losses.values(), *scalars.values())]
        norms = [value for name, value in zip(scalars, values[len(losses) :], strict=True) if _is_norm(name)]
        checked = torch.stack([*values[: len(losses)], *norms])
        factor = torch.zeros_like(values[0]) if scale is None else scale.detach().to(values[0]).reshape(())
        flat = torch.stack([*values, factor])
        stored = get_event_storage().iter
        self._pending.append(_Step(iteration, stored, data_time, tuple(losses), tuple(scalars), flat))
        return checked.isfinite().all()

    def take(self) -> list[_Step]:
        """Return all stored steps with values on the host, by one copy, and empty the log."""
        steps, self._pending = self._pending, []
        if not steps:
            return []
        flat = torch.cat([step.values for step in steps]).tolist()
        ends = np.cumsum([len(step.values) for step in steps]).tolist()
        starts = [0, *ends[:-1]]
        return [replace(step, values=flat[a:b]) for step, a, b in zip(steps, starts, ends, strict=True)]


def write_steps(of_ranks: Sequence[Sequence[_Step]]) -> None:
    """Write steps to FastReID's EventStorage: losses as means over the processes, diagnostics of the first process.

    Args:
        of_ranks: The same steps of every process, from :meth:`StepLog.take`; this process's are at its rank.

    Raises:
        FloatingPointError: A loss or a gradient is infinite or not a number, and no scaler skipped the step. The
            message names it and the iteration.
    """
    for number, own in enumerate(of_ranks[comm.get_rank()]):
        steps = [steps[number] for steps in of_ranks]
        _, scalars, scale = own.split()
        losses = dict(
            zip(own.losses, np.mean([[*step.split()[0].values()] for step in steps], axis=0).tolist(), strict=True)
        )
        if scale < LEAST_SCALE:
            _refuse_non_finite(losses, own.iteration)
            _refuse_non_finite({key: value for key, value in scalars.items() if _is_norm(key)}, own.iteration)
        if comm.is_main_process():
            _put(own.stored, max(step.data_time for step in steps), losses, scalars)


def _put(iteration: int, data_time: float, losses: Mapping[str, float], scalars: Mapping[str, float]) -> None:
    storage = get_event_storage()
    now, storage.iter = storage.iter, iteration
    storage.put_scalars(data_time=data_time)
    named = {"total_loss": sum(losses.values()), **(losses if len(losses) > 1 else {}), **scalars}
    storage.put_scalars(**{key: value for key, value in named.items() if math.isfinite(value)})
    storage.iter = now


def _is_norm(name: str) -> bool:
    return name.startswith("grad_norm")


def _refuse_non_finite(named: Mapping[str, float], iteration: int) -> None:
    bad = [f"{name} is {value}" for name, value in named.items() if not math.isfinite(value)]
    if bad:
        good = [f"{name} {value:.4g}" for name, value in named.items() if math.isfinite(value)]
        beside = f" (beside {', '.join(good)})" if good else ""
        raise FloatingPointError(f"iteration {iteration}: {', '.join(bad)}{beside}")
