"""One training step of all sub-models: forward, backward, free, one width at a time; then one optimiser step."""

from __future__ import annotations

import math
import time

import torch
from fastreid.engine.train_loop import SimpleTrainer
from fastreid.utils import comm
from fastreid.utils.events import get_event_storage
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from ..aggregation import GradientAggregation
from ..modeling import SwitchableBaseline
from ..modeling.ownership import private_parameters
from .priorities import UncertaintyPriorities
from .step_plan import StepPlan


class SwitchableTrainLoop(SimpleTrainer):
    """FastReID's inner trainer, with m sub-models a step.

    The batch is loaded, moved and normalised once. The full model comes first and the smallest sub-model last, so that
    the smaller ones can learn from the full one's features of the batch. Each sub-model's graph lives from its forward
    to its backward; its gradient on shared parameters goes into the aggregation, its gradient on private ones stays in
    ``.grad``. The aggregate is written to ``.grad``, and the optimiser, the gradient scaler and the hooks are
    FastReID's.

    Under mixed precision the collected gradients carry the scaler's factor, a power of two and the same for all
    sub-models: the projection does not depend on it, and the scaler removes it, and looks for overflow, once.
    """

    aggregation: GradientAggregation
    plan: StepPlan
    priorities: UncertaintyPriorities

    @classmethod
    def take_over(
        cls,
        trainer: SimpleTrainer,
        aggregation: GradientAggregation,
        plan: StepPlan | None = None,
        priorities: UncertaintyPriorities | None = None,
    ) -> SwitchableTrainLoop:
        """Continue from FastReID's inner trainer: its loader has started already and must not start twice.

        Args:
            trainer: FastReID's.
            aggregation: Of the sub-models' gradients.
            plan: Who is trained in a step; by default all sub-models, with equal weight.
            priorities: Further factors on their losses; by default none.

        Raises:
            InputError: The model is to be trained with a reference that is missing or does not fit.
        """
        loop = cls.__new__(cls)
        loop.__dict__.update(trainer.__dict__)
        loop.aggregation = aggregation
        model = loop.switchable
        loop.plan = plan or StepPlan(len(model.switch))
        loop.priorities = priorities or UncertaintyPriorities(model.switch.names)
        model.prepare_training()
        loop.private = private_parameters(model)
        return loop

    @property
    def switchable(self) -> SwitchableBaseline:
        """The model without its distributed wrapper, which is made for one backward a step."""
        return self.model.module if isinstance(self.model, DistributedDataParallel) else self.model

    def run_step(self) -> None:
        """Load a batch, train every sub-model on it, and step once."""
        model = self.switchable
        if not model.training:
            raise RuntimeError("the model was left in evaluation mode; training it would change nothing in its norms")
        scaler = getattr(self, "grad_scaler", None)
        start = time.perf_counter()
        batch = next(self._data_loader_iter)
        data_time = time.perf_counter() - start

        images = model.preprocess_image(batch)
        targets = batch["targets"].to(images.device)
        self.optimizer.zero_grad(set_to_none=True)
        losses: dict[str, Tensor] = {}
        scalars: dict[str, Tensor] = {}
        averaging: list[torch.distributed.Work] = []
        trained, priorities = self.plan.submodels(self.iter), self.priorities.factors()
        for index in trained:
            with torch.autocast(images.device.type, enabled=scaler is not None):
                submodel_losses, diagnostics = model.submodel_losses(images, targets, index)
                loss = sum(submodel_losses.values()) * self.plan.factor(index, self.iter)
                if priorities is not None:
                    priority = priorities[index].to(loss.device)
                    loss = loss * priority
                    diagnostics[f"priority_{model.switch.names[index]}"] = priority
            (loss if scaler is None else scaler.scale(loss)).backward()
            self.aggregation.collect(index)
            averaging += self._start_averaging(index)
            losses.update({key: value.detach() for key, value in submodel_losses.items()})
            scalars.update(diagnostics)
            del loss, submodel_losses
        for index in {*model.switch.descending} - {*trained}:
            self.aggregation.skip(index)
        model.end_step()
        self.priorities.update(scalars)
        self._finish_averaging(averaging)
        gradients = self.aggregation.aggregate(self.iter)
        if scaler is not None:
            scale = scaler.get_scale()
            gradients = {k: v / scale if k.startswith("grad_norm") else v for k, v in gradients.items()}

        self._write_metrics(losses, data_time)  # raises on NaN, with the losses by name, before anything is updated
        self._write_scalars({**scalars, **gradients})
        if scaler is None:
            self.optimizer.step()
        else:
            scaler.step(self.optimizer)
            scaler.update()

    def _start_averaging(self, index: int) -> list[torch.distributed.Work]:
        """Start to add up a sub-model's gradient over the processes, while the next sub-model computes its own."""
        if comm.get_world_size() == 1:
            return []
        return [torch.distributed.all_reduce(self.aggregation.bank.rows[index], async_op=True)]

    def _finish_averaging(self, started: list[torch.distributed.Work]) -> None:
        """Every sub-model's gradient is the mean over the processes, before any Gram matrix is made."""
        world = comm.get_world_size()
        if world == 1:
            return
        grads = [p.grad for p in self.private if p.grad is not None]
        flat = torch.cat([g.reshape(-1) for g in grads])
        torch.distributed.all_reduce(flat)
        for grad, piece in zip(grads, flat.split([g.numel() for g in grads]), strict=True):
            grad.copy_(piece.view_as(grad) / world)
        for work in started:
            work.wait()
        for row in self.aggregation.bank.rows:
            row /= world

    @staticmethod
    def _write_scalars(scalars: dict[str, Tensor]) -> None:
        """Diagnostics of this rank into FastReID's EventStorage, with one copy from the device."""
        if comm.is_main_process():
            values = torch.stack([value.detach().double().reshape(()) for value in scalars.values()]).tolist()
            finite = {key: value for key, value in zip(scalars, values, strict=True) if math.isfinite(value)}
            get_event_storage().put_scalars(**finite)  # a step that the scaler skips has none to show
