"""Calls that still work on this stack but warn in every run, and will be removed."""

from __future__ import annotations

import functools
import pickle
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from PIL import Image
from torch import nn

from .base import Shim

_OTHER_LAYOUT = ("I", "I;16", "F", "1")  # modes with more or less than one byte per channel


def byte_to_tensor(original: Callable[[Any], torch.Tensor]) -> Callable[[Any], torch.Tensor]:
    """``original`` (FastReID's ``to_tensor``: uint8 HWC to float32 CHW, 0 to 255) without ``ByteStorage``."""

    @functools.wraps(original)
    def to_tensor(pic: Any) -> torch.Tensor:
        if not isinstance(pic, Image.Image) or pic.mode in _OTHER_LAYOUT:
            return original(pic)
        pixels = np.array(pic)
        return torch.from_numpy(pixels.reshape(*pixels.shape[:2], -1)).permute(2, 0, 1).contiguous().float()

    return to_tensor


def serialize_to_tensor(data: object, group: dist.ProcessGroup) -> torch.Tensor:
    """``fastreid.utils.comm._serialize_to_tensor`` without ``ByteStorage``: the pickle of ``data`` as bytes."""
    device = "cpu" if dist.get_backend(group) == "gloo" else "cuda"
    return torch.frombuffer(bytearray(pickle.dumps(data)), dtype=torch.uint8).to(device)


def _byte_storage_deprecated() -> bool:
    from fastreid.data.transforms import functional
    from fastreid.utils import comm

    if comm._serialize_to_tensor is serialize_to_tensor and hasattr(functional.to_tensor, "__wrapped__"):
        return False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # raised, not shown: torch warns once, and that one belongs to the user
            torch.ByteStorage.from_buffer(b"0")
    except (AttributeError, UserWarning, DeprecationWarning, FutureWarning):
        return True
    return False


def _patch_byte_storage() -> None:
    """fastreid/data/transforms/functional.py:46 and utils/comm.py:106 use ``torch.ByteStorage.from_buffer``.

    ``UserWarning: TypedStorage is deprecated. It will be removed in the future``, once in every loader worker.
    """
    from fastreid.data.transforms import functional, transforms
    from fastreid.utils import comm

    functional.to_tensor = transforms.to_tensor = byte_to_tensor(functional.to_tensor)
    comm._serialize_to_tensor = serialize_to_tensor


def current_amp_trainer(original: Any) -> Any:
    """``original`` (FastReID's ``AMPTrainer``) whose gradient scaler is made by ``torch.amp``."""

    class AMPTrainer(original):
        """FastReID's ``AMPTrainer``; the scaler is that of the model's device."""

        current_scaler = True

        def __init__(
            self, model: nn.Module, data_loader: Any, optimizer: Any, param_wrapper: Any, grad_scaler: Any = None
        ) -> None:
            if grad_scaler is None:
                grad_scaler = torch.amp.GradScaler(next(model.parameters()).device.type)
            super().__init__(model, data_loader, optimizer, param_wrapper, grad_scaler)

    return AMPTrainer


def _scaler_deprecated() -> bool:
    from fastreid.engine import defaults

    if getattr(defaults.AMPTrainer, "current_scaler", False):
        return False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            torch.cuda.amp.GradScaler(enabled=False)
    except (AttributeError, UserWarning, DeprecationWarning, FutureWarning):
        return True
    return False


def _patch_scaler() -> None:
    """fastreid/engine/train_loop.py:325 makes a ``torch.cuda.amp.GradScaler``, which torch deprecated in 2.4.

    ``FutureWarning: torch.cuda.amp.GradScaler(args...) is deprecated`` with ``SOLVER.AMP.ENABLED``; on the CPU also
    ``UserWarning: torch.cuda.amp.GradScaler is enabled, but CUDA is not available.``
    """
    from fastreid.engine import defaults

    defaults.AMPTrainer = current_amp_trainer(defaults.AMPTrainer)


SHIMS = (
    Shim("byte-storage", _byte_storage_deprecated, _patch_byte_storage),
    Shim("amp-scaler", _scaler_deprecated, _patch_scaler),
)
