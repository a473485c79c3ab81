"""Hooks, based on FastReID's, for several sub-models."""

import itertools
import logging
from collections.abc import Callable, Sequence
from typing import Any

from fastreid.engine.hooks import HookBase, LayerFreeze, LRScheduler
from fastreid.utils import comm
from fastreid.utils.env import seed_all_rng

from ..data.streams import mixed_seeds
from ..errors import InputError
from ..layers import SwitchableNorm
from ..modeling import SwitchableBaseline
from ..modeling.calibration import average_statistics, calibrate_bn

logger = logging.getLogger("fastreid.switchablecompat.hooks")


class SteadyLRScheduler(LRScheduler):
    """FastReID's schedule, whose warm-up has one step for each iteration, also for one that the gradient scaler skips.

    FastReID leaves out the warm-up's steps of such iterations. All later rates are multiples of the last one, so they
    stay too low to the end of the training (``WARMUP_METHOD constant``: at a tenth).
    """

    def before_train(self) -> None:
        self._optimizer._opt_called = True  # torch warns if a schedule steps before the optimiser of this process

    def before_step(self) -> None:
        """Nothing: FastReID's asks a GPU for the scaler's factor here."""

    def after_step(self) -> None:
        rate = self._optimizer.param_groups[self._best_param_group_id]["lr"]
        self.trainer.storage.put_scalar("lr", rate, smoothing_hint=False)
        if self.trainer.iter < self.trainer.warmup_iters:
            self._scheduler["warmup_sched"].step()


class StepSeed(HookBase):
    """Seed every step separately, so that a resumed run draws the same random numbers as an uninterrupted one."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def before_step(self) -> None:
        seed_all_rng(*mixed_seeds((self._seed, self.trainer.iter, comm.get_rank())))


class StartCalibration(HookBase):
    """Calibrates the BN statistics of all widths below 1.0 before the first step of a run, but not after a resume.

    Leading slices of a pretrained full model's statistics do not fit the output of a sliced layer. Its inputs lack
    channels, and the error grows with every layer.
    It uses batches of a separate training loader, so that the run's own batches do not change.
    """

    def __init__(self, model: SwitchableBaseline, build_loader: Callable[[], Any], num_iter: int) -> None:
        self._model, self._build_loader, self._num_iter = model, build_loader, num_iter

    def before_train(self) -> None:
        narrow = [index for index, width in enumerate(self._model.switch.widths) if width < 1.0]
        if narrow and not self.trainer.start_iter:
            _calibrate(self._model, self._build_loader(), self._num_iter, narrow)
            average_statistics(self._model)


class BNCalibration(HookBase):
    """FastReID's PreciseBN for every sub-model: after the last epoch, before its evaluation and checkpoint."""

    def __init__(self, model: SwitchableBaseline, data_loader: Any, num_iter: int) -> None:
        self._model, self._data_loader, self._num_iter = model, data_loader, num_iter

    def after_epoch(self) -> None:
        if self.trainer.epoch + 1 == self.trainer.max_epoch:
            _calibrate(self._model, self._data_loader, self._num_iter, range(len(self._model.switch)))


def _calibrate(model: SwitchableBaseline, loader: Any, num_iter: int, indices: Sequence[int]) -> None:
    try:
        used = calibrate_bn(model, itertools.islice(iter(loader), num_iter), indices)
    finally:
        loader.shutdown()
    logger.info(f"BN statistics of {len(indices)} sub-models calibrated on {used} batches")


class SwitchableLayerFreeze(LayerFreeze):
    """FastReID's freezing of layers for the first iterations, in every sub-model.

    Parameters of frozen layers require no gradient until the layers are opened again. (FastReID counts optimiser steps
    instead, and freezes again after a resume.) Norms of narrow widths stay in training mode. Their initial statistics
    are leading slices of the full model's, which do not fit a sliced layer and would feed the head a constant.

    Raises:
        InputError: A name belongs to no module, or nothing is left to train.
    """

    def __init__(self, model: SwitchableBaseline, layers: Sequence[str], iterations: int) -> None:
        super().__init__(model, list(layers), iterations)
        modules = dict(model.named_modules())
        for name in layers:
            if name not in modules:
                raise InputError("MODEL.FREEZE_LAYERS", "must name modules of the model, as backbone.layer1", name)
        self._frozen = [modules[name] for name in layers]
        self._held = list(dict.fromkeys(p for m in self._frozen for p in m.parameters() if p.requires_grad))
        if {*self._held} >= {p for p in model.parameters() if p.requires_grad}:
            raise InputError("MODEL.FREEZE_LAYERS", "must leave something to train", list(layers))

    def freeze_specific_layer(self) -> None:
        """Freeze the layers."""
        self._set_frozen(True)
        for norm in (m for layer in self._frozen for m in layer.modules() if isinstance(m, SwitchableNorm)):
            norm.narrow.train()
        names = ", ".join(self.freeze_layers)
        logger.info(f'Freeze layer group "{names}" training for {self.freeze_iters:d} iterations')

    def open_all_layer(self) -> None:
        """Unfreeze the layers."""
        self._set_frozen(False)
        logger.info(f'Open layer group "{", ".join(self.freeze_layers)}" training')

    def _set_frozen(self, frozen: bool) -> None:
        self.is_frozen = frozen
        for layer in self._frozen:
            layer.train(not frozen)
        for parameter in self._held:
            parameter.requires_grad_(not frozen)
