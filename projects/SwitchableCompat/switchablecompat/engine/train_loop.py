"""One training step of all sub-models: forward, backward, free, one width at a time; then one optimiser step."""

from __future__ import annotations

import functools
import math
import operator
import time
from typing import cast

import numpy as np
import torch
from fastreid.engine.train_loop import SimpleTrainer
from fastreid.utils import comm
from fastreid.utils.events import get_event_storage
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ..aggregation import GradientAggregation
from ..layers import private_parameters
from ..modeling import SwitchableBaseline
from .certainty import ClassCertainty
from .interruption import Interruption
from .priorities import UncertaintyPriorities
from .step_plan import StepPlan

LEAST_SCALE = 2.0**-14  # GradScaler's initial scale halved thirty times, once per step that overflowed


class NoBatchError(RuntimeError):
    """The run was asked to end, and no batch is left for another step. No step is in progress."""


def unwrapped(model: nn.Module) -> SwitchableBaseline:
    """A model without its distributed wrapper, if it has one."""
    return cast(SwitchableBaseline, model.module if isinstance(model, DistributedDataParallel) else model)


class SwitchableTrainLoop(SimpleTrainer):
    """FastReID's inner trainer, for m sub-models per step.

    The batch is loaded, moved and normalised once. The full model comes first and the smallest sub-model last, so that
    the smaller ones can learn from the full one's features of the batch. Each sub-model's graph lives from its forward
    to its backward pass. Its gradient on shared parameters goes into the aggregation; its gradient on private
    parameters stays in ``.grad``. The aggregate is written to ``.grad``. Optimiser, gradient scaler and hooks are
    FastReID's.

    Under mixed precision, the collected gradients contain the scaler's factor, a power of two that is the same for all
    sub-models. The projection does not depend on it. The scaler removes it and looks for an overflow once per step. If
    the loss or gradient of one sub-model overflows, the step is skipped for all. If the factor falls below
    :data:`LEAST_SCALE`, the run ends. Without a scaler, the first value that is not finite ends the run. All processes
    end with the same error, so none waits for the others.
    """

    aggregation: GradientAggregation
    plan: StepPlan
    priorities: UncertaintyPriorities
    certainty: ClassCertainty | None
    autocast: torch.dtype | None
    interruption: Interruption
    leaving: bool  # a process of this run was asked to end; all processes learn this after the same step

    @classmethod
    def take_over(
        cls,
        trainer: SimpleTrainer,
        aggregation: GradientAggregation,
        plan: StepPlan | None = None,
        priorities: UncertaintyPriorities | None = None,
        certainty: ClassCertainty | None = None,
        autocast: torch.dtype | None = None,
        interruption: Interruption | None = None,
    ) -> SwitchableTrainLoop:
        """Make the loop from FastReID's inner trainer and its loader, which has already started and must not start
        twice.

        Args:
            trainer: FastReID's inner trainer.
            aggregation: Aggregation of the sub-models' gradients.
            plan: Sub-models and loss factors of each step. Default: all sub-models with factor 1.
            priorities: Further loss factors. Default: none.
            certainty: Shares of the sub-models in the class vectors. Default: none.
            autocast: Number format under mixed precision. Default: no mixed precision.
            interruption: Request to end the run. Default: none.

        Raises:
            InputError: The model needs a reference that is missing or does not fit.
        """
        loop = cls.__new__(cls)
        loop.__dict__.update(trainer.__dict__)
        loop.aggregation, loop.certainty, loop.autocast = aggregation, certainty, autocast
        model = loop.switchable
        loop.plan = plan or StepPlan(len(model.switch))
        loop.priorities = priorities or UncertaintyPriorities(model.switch.names)
        loop.interruption, loop.leaving = interruption or Interruption(), False
        model.prepare_training()
        loop.private = private_parameters(model)
        return loop

    @property
    def switchable(self) -> SwitchableBaseline:
        """The model without its distributed wrapper, which supports only one backward pass per step."""
        return unwrapped(self.model)

    def run_step(self) -> None:
        """Load a batch, compute the gradients of every sub-model on it, and take one optimiser step."""
        model = self.switchable
        if not model.training:
            raise RuntimeError("the model was left in evaluation mode; training it would change nothing in its norms")
        scaler = getattr(self, "grad_scaler", None)
        start = time.perf_counter()
        try:
            batch = next(self._data_loader_iter)
        except RuntimeError as error:
            if self.interruption.requested:  # a signal to the process group has ended the loaders
                raise NoBatchError from error
            raise
        data_time = time.perf_counter() - start

        images = model.preprocess_image(batch)
        targets = batch["targets"].to(images.device)
        self.optimizer.zero_grad(set_to_none=True)
        losses: dict[str, Tensor] = {}
        scalars: dict[str, Tensor] = {}
        averaging: list[torch.distributed.Work] = []
        trained, priorities = self.plan.submodels(self.iter), self.priorities.factors()
        for index in trained:
            with torch.autocast(images.device.type, self.autocast, enabled=self.autocast is not None):
                submodel_losses, diagnostics = model.submodel_losses(images, targets, index)
                self._take_certainty(diagnostics, targets, index)
                factor: float | Tensor = self.plan.factor(index, self.iter)
                if priorities is not None:
                    priority = priorities[index].to(images.device)
                    factor = factor * priority
                    diagnostics[f"priority_{model.switch.names[index]}"] = priority
                loss = functools.reduce(operator.add, submodel_losses.values()) * factor
            (loss if scaler is None else scaler.scale(loss)).backward()
            self.aggregation.collect(index, factor)
            averaging += self._start_averaging(index)
            losses.update({key: value.detach() for key, value in submodel_losses.items()})
            scalars.update(diagnostics)
            del loss, submodel_losses
        for index in {*model.switch.descending} - {*trained}:
            self.aggregation.skip(index)
        model.end_step()
        self.priorities.update(scalars)
        self._finish_averaging(averaging)
        gradients = self.aggregation.aggregate(self.iter, self.certainty.factors() if self.certainty else None)
        overflow_allowed = False
        if scaler is not None:
            scale = scaler.get_scale()
            gradients = {k: v / scale if k.startswith("grad_norm") else v for k, v in gradients.items()}
            overflow_allowed = scaler.is_enabled() and scale >= LEAST_SCALE

        self._write_metrics(losses, data_time, overflow_allowed=overflow_allowed)
        self._write_scalars({**scalars, **gradients}, overflow_allowed=overflow_allowed)
        if scaler is None:
            self.optimizer.step()
        else:
            scaler.step(self.optimizer)
            scaler.update()

    def _take_certainty(self, diagnostics: dict[str, Tensor], targets: Tensor, index: int) -> None:
        """Move a sub-model's certainty of each image into the running means of its classes, and its mean into the
        log."""
        key = f"certainty_{self.switchable.switch.names[index]}"
        if key in diagnostics:
            if self.certainty is not None:
                self.certainty.update(index, targets, diagnostics[key])
            diagnostics[key] = diagnostics[key].mean()

    def _start_averaging(self, index: int) -> list[torch.distributed.Work]:
        """Start to sum a sub-model's gradient over the processes while the next sub-model computes its own."""
        if comm.get_world_size() == 1:
            return []
        return [torch.distributed.all_reduce(self.aggregation.bank.rows[index], async_op=True)]

    def _finish_averaging(self, started: list[torch.distributed.Work]) -> None:
        """Turn every sub-model's gradient into the mean over the processes, before Gram matrices are computed."""
        world = comm.get_world_size()
        if world == 1:
            return
        grads = [p.grad for p in self.private if p.grad is not None]
        if grads:  # none while all norms are frozen
            flat = torch.cat([g.reshape(-1) for g in grads])
            torch.distributed.all_reduce(flat)
            for grad, piece in zip(grads, flat.split([g.numel() for g in grads]), strict=True):
                grad.copy_(piece.view_as(grad) / world)
        for work in started:
            work.wait()
        for row in self.aggregation.bank.rows:
            row /= world

    def _write_metrics(self, losses: dict[str, Tensor], data_time: float, *, overflow_allowed: bool) -> None:
        """Write the losses, averaged over the processes, to FastReID's EventStorage, with one copy from the device.

        This is also where all processes learn, at the same step, whether one of them was asked to end.

        Raises:
            FloatingPointError: A loss is not finite (the message names it), and no scaler can skip the step. Nothing
                has been updated then.
        """
        values = torch.stack([loss.double().reshape(()) for loss in losses.values()]).tolist()
        of_ranks = comm.all_gather((data_time, values, self.interruption.requested))
        self.leaving = any(requested for *_, requested in of_ranks)
        if self.leaving:
            self.interruption.requested = True
        means = dict(zip(losses, np.mean([values for _, values, _ in of_ranks], axis=0).tolist(), strict=True))
        if not overflow_allowed:
            self._refuse_non_finite(means)
        if not comm.is_main_process():
            return
        means = {"total_loss": sum(means.values()), **(means if len(means) > 1 else {})}
        storage = get_event_storage()
        storage.put_scalars(data_time=max(seconds for seconds, *_ in of_ranks))
        storage.put_scalars(**{key: value for key, value in means.items() if math.isfinite(value)})

    def _write_scalars(self, scalars: dict[str, Tensor], *, overflow_allowed: bool) -> None:
        """Write diagnostics of the first process to FastReID's EventStorage, with one copy from the device.

        Raises:
            FloatingPointError: A gradient (equal in all processes) is not finite, and no scaler can skip the step.
        """
        values = torch.stack([value.detach().double().reshape(()) for value in scalars.values()]).tolist()
        named = dict(zip(scalars, values, strict=True))
        if not overflow_allowed:
            self._refuse_non_finite({key: value for key, value in named.items() if key.startswith("grad_norm")})
        if comm.is_main_process():
            get_event_storage().put_scalars(**{key: value for key, value in named.items() if math.isfinite(value)})

    def _refuse_non_finite(self, named: dict[str, float]) -> None:
        bad = [f"{name} is {value}" for name, value in named.items() if not math.isfinite(value)]
        if bad:
            good = [f"{name} {value:.4g}" for name, value in named.items() if math.isfinite(value)]
            beside = f" (beside {', '.join(good)})" if good else ""
            raise FloatingPointError(f"iteration {self.iter}: {', '.join(bad)}{beside}")
