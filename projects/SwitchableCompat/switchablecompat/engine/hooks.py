"""Hooks and writers, based on FastReID's, for several sub-models."""

from __future__ import annotations

import itertools
import json
import logging
import os
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from fastreid.engine.hooks import HookBase, LayerFreeze
from fastreid.utils import comm
from fastreid.utils.env import seed_all_rng
from fastreid.utils.events import CommonMetricPrinter, EventWriter, TensorboardXWriter, get_event_storage

from ..data.streams import mixed_seeds
from ..errors import InputError
from ..layers import SwitchableNorm
from ..modeling import SwitchableBaseline
from ..modeling.calibration import average_statistics, calibrate_bn

logger = logging.getLogger("fastreid.switchablecompat.hooks")


class StepSeed(HookBase):
    """Seed every step separately, so that a resumed run draws the same random numbers as an uninterrupted one.

    Args:
        seed: Seed of the run.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def before_step(self) -> None:
        seed_all_rng(*mixed_seeds((self._seed, self.trainer.iter, comm.get_rank())))


class BNCalibration(HookBase):
    """FastReID's PreciseBN for every sub-model: after the last epoch, before its evaluation and checkpoint.

    Args:
        model: The switchable model (not its distributed wrapper).
        data_loader: Batches of the calibration data, endless like FastReID's training loaders.
        num_iter: Number of batches.
    """

    def __init__(self, model: SwitchableBaseline, data_loader: Any, num_iter: int) -> None:
        self._model, self._data_loader, self._num_iter = model, data_loader, num_iter

    def after_epoch(self) -> None:
        if self.trainer.epoch + 1 == self.trainer.max_epoch:
            self.update_stats()

    def update_stats(self) -> None:
        """Calibrate all sub-models."""
        try:
            used = calibrate_bn(self._model, itertools.islice(iter(self._data_loader), self._num_iter))
        finally:
            self._data_loader.shutdown()
        logger.info(f"BN statistics of {len(self._model.switch)} sub-models calibrated on {used} batches")


class StatisticsOverRanks(HookBase):
    """Give every process the same BN statistics at the end of an epoch, before evaluation and checkpoint.

    FastReID does not. Each rank would extract its part of the test set with its own statistics, and the checkpoint
    would contain only those of the first rank.
    """

    def __init__(self, model: SwitchableBaseline) -> None:
        self._model = model

    def after_epoch(self) -> None:
        if comm.get_world_size() > 1:
            average_statistics(self._model)


class SwitchableLayerFreeze(LayerFreeze):
    """FastReID's freezing of layers for the first iterations, in every sub-model.

    Parameters of frozen layers require no gradient until the layers are opened again. (FastReID counts optimiser steps
    instead, and freezes again after a resume.) Norms of narrow widths stay in training mode. Their initial statistics
    are leading slices of the full model's, which do not fit a sliced layer and would feed the head a constant.

    Args:
        model: The switchable model (not its distributed wrapper).
        layers: Names of modules: ``backbone``, ``heads``, or a part such as ``backbone.layer1``.
        iterations: Number of iterations, from the first.

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
        self.is_frozen = True
        for layer in self._frozen:
            layer.eval()
            for norm in (m for m in layer.modules() if isinstance(m, SwitchableNorm)):
                norm.narrow.train()
        for parameter in self._held:
            parameter.requires_grad_(False)
        names = ", ".join(self.freeze_layers)
        logger.info(f'Freeze layer group "{names}" training for {self.freeze_iters:d} iterations')

    def open_all_layer(self) -> None:
        """Unfreeze the layers."""
        self.is_frozen = False
        for layer in self._frozen:
            layer.train()
        for parameter in self._held:
            parameter.requires_grad_(True)
        logger.info(f'Open layer group "{", ".join(self.freeze_layers)}" training')


class _WritesLateScalars:
    """Mixin that remembers the last written iteration separately for each scalar.

    FastReID's writers remember one iteration for all scalars. They never write what an evaluation adds to the last
    iteration of an epoch (upstream ``utils/events.py``, ``_last_write``).
    """

    _written: dict[str, int]
    _window_size: int  # attribute of FastReID's writers

    def _news(self) -> dict[str, tuple[float, int]]:
        self.__dict__.setdefault("_written", {})
        latest = get_event_storage().latest_with_smoothing_hint(self._window_size)
        news = {key: (v, it) for key, (v, it) in latest.items() if it > self._written.get(key, -1)}
        self._written.update({key: it for key, (_, it) in news.items()})
        return news


class CompleteJSONWriter(_WritesLateScalars, EventWriter):
    """FastReID's ``metrics.json``, including the last evaluation. Removes an unfinished line of a killed run.

    The file is open only while lines are added, because an error may end the run before anything closes it.
    """

    def __init__(self, json_file: str, window_size: int = 20) -> None:
        self._path, self._window_size = json_file, window_size
        if os.path.isfile(json_file):
            with open(json_file, "rb+") as file:
                file.truncate(file.read().rfind(b"\n") + 1)

    def write(self) -> None:
        rows: dict[int, dict[str, float]] = defaultdict(dict)
        for key, (value, iteration) in self._news().items():
            rows[iteration][key] = value
        with open(self._path, "a", encoding="utf-8") as file:
            for iteration in sorted(rows):
                line = {"iteration": iteration, **rows[iteration]}
                file.write(json.dumps(line, sort_keys=True) + "\n")


class ShortRunMetricPrinter(CommonMetricPrinter):
    """FastReID's metric lines on the screen, without the division by zero in runs too short for any timing."""

    _last_write: tuple[int, float] | None

    def write(self) -> None:
        if self._last_write is not None and self._last_write[0] == get_event_storage().iter:
            self._last_write = None
        super().write()


class CompleteTensorboardWriter(_WritesLateScalars, TensorboardXWriter):
    """FastReID's TensorBoard scalars, including the last evaluation."""

    def write(self) -> None:
        for key, (value, iteration) in self._news().items():
            self._writer.add_scalar(key, value, iteration)
