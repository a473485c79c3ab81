"""BN statistics of the narrow widths before the first step (``MODEL.SWITCHABLE.SUBMODEL_START calibrated``).

Leading slices of a pretrained full model's statistics do not fit the output of a sliced layer. Its inputs lack
channels, and the error grows with every layer.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable
from typing import Any

from fastreid.config import CfgNode
from fastreid.engine.hooks import HookBase
from fastreid.utils import comm

from ..modeling import SwitchableBaseline
from ..modeling.calibration import average_statistics, calibrate_bn

logger = logging.getLogger("fastreid.switchablecompat.submodel_start")


class SubmodelCalibration(HookBase):
    """Calibrates all widths below 1.0 before the first step of a run, but not after a resume.

    Args:
        model: The switchable model (not its distributed wrapper).
        build_loader: Makes a separate loader of training batches, so that the run's own batches do not change.
        num_iter: Number of batches.
    """

    def __init__(self, model: SwitchableBaseline, build_loader: Callable[[], Any], num_iter: int) -> None:
        self._model, self._build_loader, self._num_iter = model, build_loader, num_iter

    def before_train(self) -> None:
        """Calibrate the narrow widths."""
        narrow = [index for index, width in enumerate(self._model.switch.widths) if width < 1.0]
        if self.trainer.start_iter or not narrow:
            return
        loader = self._build_loader()
        try:
            used = calibrate_bn(self._model, itertools.islice(iter(loader), self._num_iter), narrow)
        finally:
            loader.shutdown()
        if comm.get_world_size() > 1:
            average_statistics(self._model)
        logger.info(f"BN statistics of {len(narrow)} narrow sub-models start from {used} training batches")


def start_hooks(cfg: CfgNode, model: SwitchableBaseline, build_loader: Callable[[CfgNode], Any]) -> list[HookBase]:
    """Hooks that prepare the sub-models of a run before its first step."""
    if cfg.MODEL.SWITCHABLE.SUBMODEL_START != "calibrated":
        return []
    return [SubmodelCalibration(model, lambda: build_loader(cfg), cfg.TEST.PRECISE_BN.NUM_ITER)]
