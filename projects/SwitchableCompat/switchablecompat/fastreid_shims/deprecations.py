"""Calls that still work on this stack but warn in every run, and will be removed."""

import pickle
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from fastreid.data.transforms import functional, transforms
from fastreid.engine import defaults
from fastreid.engine.train_loop import AMPTrainer
from fastreid.utils import comm
from PIL import Image
from torch import nn

from .base import shim

_OTHER_LAYOUT = ("I", "I;16", "F", "1")  # modes with more or less than one byte per channel
_to_tensor = functional.to_tensor  # FastReID's own


def _warns(call: Callable[[], object]) -> bool:
    """Whether a call warns, or is no longer possible."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # raised, not shown: torch warns once, and that one belongs to the user
            call()
    except (AttributeError, Warning):
        return True
    return False


def to_tensor(pic: Any) -> torch.Tensor:
    """FastReID's ``to_tensor`` (uint8 HWC to float32 CHW, 0 to 255) without ``ByteStorage``."""
    if not isinstance(pic, Image.Image) or pic.mode in _OTHER_LAYOUT:
        return _to_tensor(pic)
    pixels = np.array(pic)
    return torch.from_numpy(pixels.reshape(*pixels.shape[:2], -1)).permute(2, 0, 1).contiguous().float()


def serialize_to_tensor(data: object, group: dist.ProcessGroup) -> torch.Tensor:
    """``fastreid.utils.comm._serialize_to_tensor`` without ``ByteStorage``: the pickle of ``data`` as bytes."""
    device = "cpu" if dist.get_backend(group) == "gloo" else "cuda"
    return torch.frombuffer(bytearray(pickle.dumps(data)), dtype=torch.uint8).to(device)


def _byte_storage_deprecated() -> bool:
    return comm._serialize_to_tensor is not serialize_to_tensor and _warns(lambda: torch.ByteStorage.from_buffer(b"0"))


@shim("byte-storage", needed=_byte_storage_deprecated)
def _patch_byte_storage() -> None:
    """fastreid/data/transforms/functional.py:46 and utils/comm.py:106 use ``torch.ByteStorage.from_buffer``.

    ``UserWarning: TypedStorage is deprecated. It will be removed in the future``, once in every loader worker.
    """
    functional.to_tensor = transforms.to_tensor = to_tensor
    comm._serialize_to_tensor = serialize_to_tensor


class CurrentAMPTrainer(AMPTrainer):
    """FastReID's ``AMPTrainer`` with the gradient scaler of ``torch.amp`` for the model's device."""

    def __init__(
        self, model: nn.Module, data_loader: Any, optimizer: Any, param_wrapper: Any, grad_scaler: Any = None
    ) -> None:
        if grad_scaler is None:
            grad_scaler = torch.amp.GradScaler(next(model.parameters()).device.type)
        super().__init__(model, data_loader, optimizer, param_wrapper, grad_scaler)


def _scaler_deprecated() -> bool:
    return defaults.AMPTrainer is not CurrentAMPTrainer and _warns(lambda: torch.cuda.amp.GradScaler(enabled=False))


@shim("amp-scaler", needed=_scaler_deprecated)
def _patch_scaler() -> None:
    """fastreid/engine/train_loop.py:325 makes a ``torch.cuda.amp.GradScaler``, which torch deprecated in 2.4.

    ``FutureWarning: torch.cuda.amp.GradScaler(args...) is deprecated`` with ``SOLVER.AMP.ENABLED``; on the CPU also
    ``UserWarning: torch.cuda.amp.GradScaler is enabled, but CUDA is not available.``
    """
    defaults.AMPTrainer = CurrentAMPTrainer
