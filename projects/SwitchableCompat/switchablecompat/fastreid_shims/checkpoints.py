"""Checkpoints that hold NumPy values."""

import functools
import io
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from fastreid.utils.checkpoint import Checkpointer
from numpy._core import multiarray

from .base import shim

DTYPES = {type(np.dtype(code)) for code in ("?", "u1", "i1", "i2", "i4", "i8", "f2", "f4", "f8")}
# What torch.load(weights_only=True) must allow for NumPy arrays and scalars of either NumPy generation: files written
# with NumPy 1 name numpy.core, those written with NumPy 2 numpy._core.
SAFE: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
    (function, f"{module}.{function.__name__}")
    for function in (multiarray._reconstruct, multiarray.scalar)
    for module in ("numpy.core.multiarray", "numpy._core.multiarray")
] + [np.ndarray, np.dtype, *DTYPES]


def _numpy_in_checkpoint_refused() -> bool:
    file = io.BytesIO()
    torch.save({"metric": np.float64(0.5), "weight": np.zeros(1, np.float32)}, file)
    file.seek(0)
    try:
        Checkpointer._load_file(None, file)
    except pickle.UnpicklingError:
        return True
    return False


@shim("numpy-in-checkpoint", needed=_numpy_in_checkpoint_refused)
def _patch_load_file() -> None:
    """fastreid/utils/checkpoint.py:216 relies on the old default of ``torch.load``.

    Since torch 2.6 it loads weights only, and refuses converted weights (NumPy arrays) and metrics (NumPy scalars):
    ``UnpicklingError: ... Unsupported global: GLOBAL numpy._core.multiarray._reconstruct``. Allowing just these keeps
    the protection against code in a checkpoint.
    """
    original = Checkpointer._load_file

    @functools.wraps(original)
    def _load_file(self: Checkpointer, f: str) -> Any:
        with torch.serialization.safe_globals(SAFE):
            return original(self, f)

    Checkpointer._load_file = _load_file
