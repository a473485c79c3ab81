"""One training step of all sub-models: forward, backward, free, one width at a time; then one optimiser step."""

import functools
import operator
import time
from typing import cast

import torch
from fastreid.engine.train_loop import SimpleTrainer
from fastreid.utils import comm
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ..aggregation import GradientAggregation
from ..layers import private_parameters
from ..modeling import SwitchableBaseline
from .certainty import ClassCertainty
from .fused_optimizer import is_fused, step_if
from .interruption import Interruption
from .priorities import UncertaintyPriorities
from .step_log import REPORT_EVERY, StepLog, write_steps
from .step_plan import StepPlan


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
    sub-models. The aggregation leaves it out of what it remembers and reports. The scaler removes it and looks for an
    overflow once per step. If the loss or gradient of one sub-model overflows, the step is skipped for all. If the
    factor falls below :data:`~.step_log.LEAST_SCALE`, the run ends. Without a scaler, the first value that is not
    finite ends the run, and no update follows it. All processes end with the same error, so none waits for the others.

    On a GPU, only the steps after which the log is read wait for the device (:class:`~.step_log.StepLog`).

    Args:
        trainer: FastReID's inner trainer. Its loader has already started and must not start twice.
        aggregation: Aggregation of the sub-models' gradients.
        plan: Sub-models and loss factors of each step. Default: all sub-models with factor 1.
        priorities: Further loss factors.
        certainty: Shares of the sub-models in the class vectors.
        autocast: Number format under mixed precision.
        interruption: Request to end the run.
        log: Decides when scalars are read from the device. Default: after each step; with a fused optimiser, which
            itself skips what is not finite, every :data:`~.step_log.REPORT_EVERY` steps.

    Attributes:
        leaving: Whether a process of this run was asked to end. All processes learn this after the same step.

    Raises:
        InputError: The model needs a reference that is missing or does not fit.
    """

    def __init__(
        self,
        trainer: SimpleTrainer,
        aggregation: GradientAggregation,
        plan: StepPlan | None = None,
        priorities: UncertaintyPriorities | None = None,
        certainty: ClassCertainty | None = None,
        autocast: torch.dtype | None = None,
        interruption: Interruption | None = None,
        log: StepLog | None = None,
    ) -> None:
        self.__dict__.update(trainer.__dict__)
        self.aggregation, self.certainty, self.autocast = aggregation, certainty, autocast
        model = self.switchable
        self.plan = plan or StepPlan(len(model.switch))
        self.priorities = priorities or UncertaintyPriorities(model.switch.names)
        self.interruption, self.leaving = interruption or Interruption(), False
        self.log = log or StepLog(REPORT_EVERY if is_fused(trainer.optimizer) else 1)
        model.prepare_training()
        self.private = private_parameters(model)

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
        except (RuntimeError, OSError, EOFError) as error:
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
        skipped = {*model.switch.descending} - {*trained}
        for index in skipped:
            self.aggregation.skip(index)
        model.end_step()
        self.priorities.update(scalars)
        self._finish_averaging(averaging)
        shares = self.certainty.factors(skipped) if self.certainty else None
        scale = _scale_of(scaler)
        gradients = self.aggregation.aggregate(self.iter, shares, scale)
        if shares is not None:
            names = (f"classifier_share_{name}" for name in model.switch.names)
            scalars.update(zip(names, shares.mean(dim=0), strict=True))

        finite = self.log.add(self.iter, data_time, losses, {**scalars, **gradients}, scale)
        self._report()
        if scaler is not None:
            scaler.step(self.optimizer)
            scaler.update()
        elif self.log.every > 1:  # nobody has looked yet
            if comm.get_world_size() > 1:  # the averaged gradients may hide that one process's loss is not finite
                everywhere = finite.float()
                torch.distributed.all_reduce(everywhere, torch.distributed.ReduceOp.MIN)
                finite = everywhere.bool()
            step_if(self.optimizer, finite)
        else:
            self.optimizer.step()

    def _take_certainty(self, diagnostics: dict[str, Tensor], targets: Tensor, index: int) -> None:
        """Move a sub-model's certainty of each image into the running means; the log gets its mean."""
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
        """Turn every sub-model's gradient into the mean over the processes."""
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

    def _report(self) -> None:
        """Write the part of the log that is due. All processes also learn here, at the same step, whether one was asked
        to end.

        Raises:
            FloatingPointError: A loss or a gradient is not finite; see :func:`~.step_log.write_steps`.
        """
        due = self.log.due(self.iter)
        of_ranks = comm.all_gather((self.interruption.requested, self.log.take() if due else []))
        self.leaving = any(requested for requested, _ in of_ranks)
        if self.leaving:
            self.interruption.requested = True
        if due:
            write_steps([steps for _, steps in of_ranks])
        elif self.leaving:
            self.write_rest()

    def write_rest(self) -> None:
        """Write what the log still holds, in all processes together; raises as :func:`~.step_log.write_steps`."""
        write_steps(comm.all_gather(self.log.take()))


def _scale_of(scaler: torch.amp.GradScaler | None) -> Tensor | None:
    """Factor of the gradient scaler, on its device (``get_scale`` would wait for it); None without a scaler."""
    if scaler is None or not scaler.is_enabled():
        return None
    scale = getattr(scaler, "_scale", None)
    return torch.tensor(scaler.get_scale()) if scale is None else scale
