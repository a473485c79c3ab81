"""Optimizer and checkpoints: gradients that reach the flat buffers, NumPy values in checkpoints."""

from __future__ import annotations

import functools
import io
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from .base import Shim


def buffer_keeping_optimizer(optimizer: type[torch.optim.Optimizer]) -> type[torch.optim.Optimizer]:
    """A subclass of ``optimizer`` whose ``zero_grad`` keeps the gradients of flat buffers allocated.

    FastReID's ``ContiguousParams`` hands the optimizer plain tensors, of which the model's parameters are views;
    ordinary parameters (``build_optimizer(..., contiguous=False)``) are treated as torch does.
    """

    def zero_grad(self: torch.optim.Optimizer, set_to_none: bool = True) -> None:
        flat = any(not isinstance(p, nn.Parameter) for group in self.param_groups for p in group["params"])
        optimizer.zero_grad(self, set_to_none=set_to_none and not flat)

    return type(optimizer.__name__, (optimizer,), {"zero_grad": zero_grad, "__module__": optimizer.__module__})


def _contiguous_step_moves_nothing() -> bool:
    from fastreid.config import get_cfg
    from fastreid.solver import build

    cfg = get_cfg()
    cfg.SOLVER.OPT = "SGD"
    model = nn.Module()
    model.weight = nn.Parameter(torch.ones(1))  # not nn.Linear: an import must not draw random numbers
    optimizer, _ = build.build_optimizer(cfg, model, contiguous=True)
    optimizer.zero_grad()
    (1e6 * model.weight).sum().backward()  # large: the step must show in float32 at any default learning rate
    optimizer.step()
    return model.weight.item() == 1.0


def _patch_zero_grad() -> None:
    """fastreid/solver/build.py:168 ``build_optimizer`` trains nothing on torch >= 2.0, silently.

    ``zero_grad()`` sets gradients to None since torch 2.0. That detaches the gradient of the flat buffer from the
    parameters' gradients (fastreid/utils/params.py:60), so ``step()`` sees no gradient. The loss is logged normally.
    With AMP the same cause gives ``AssertionError: No inf checks were recorded for this optimizer``.
    ``maybe_add_freeze_layer`` is the one function through which every optimizer class passes.
    """
    from fastreid.solver import build

    original = build.maybe_add_freeze_layer

    @functools.wraps(original)
    def maybe_add_freeze_layer(cfg: Any, optimizer: type[torch.optim.Optimizer]) -> type[torch.optim.Optimizer]:
        return buffer_keeping_optimizer(original(cfg, optimizer))

    build.maybe_add_freeze_layer = maybe_add_freeze_layer


def numpy_safe_globals() -> list[Callable[..., Any] | tuple[Callable[..., Any], str]]:
    """What ``torch.load(weights_only=True)`` must allow for NumPy arrays and scalars of either NumPy generation."""
    core = np._core if hasattr(np, "_core") else np.core
    functions = (core.multiarray._reconstruct, core.multiarray.scalar)
    # Files written with NumPy 1 name numpy.core, those written with NumPy 2 numpy._core.
    modules = ("numpy.core.multiarray", "numpy._core.multiarray")
    allowed: list[Callable[..., Any] | tuple[Callable[..., Any], str]]
    allowed = [(function, f"{module}.{function.__name__}") for function in functions for module in modules]
    dtypes = {type(np.dtype(code)) for code in ("?", "u1", "i1", "i2", "i4", "i8", "f2", "f4", "f8")}
    classes: tuple[type, ...] = (np.ndarray, np.dtype, *sorted(dtypes, key=lambda cls: cls.__name__))
    return allowed + [(cls, f"{cls.__module__}.{cls.__qualname__}") for cls in classes]


def _numpy_in_checkpoint_refused() -> bool:
    from fastreid.utils.checkpoint import Checkpointer

    file = io.BytesIO()
    torch.save({"metric": np.float64(0.5), "weight": np.zeros(1, np.float32)}, file)
    file.seek(0)
    try:
        Checkpointer._load_file(None, file)
    except pickle.UnpicklingError:
        return True
    return False


def _patch_load_file() -> None:
    """fastreid/utils/checkpoint.py:216 relies on the old default of ``torch.load``.

    Since torch 2.6 it loads weights only, and refuses converted weights (NumPy arrays) and metrics (NumPy scalars):
    ``UnpicklingError: ... Unsupported global: GLOBAL numpy._core.multiarray._reconstruct``. Allowing just these keeps
    the protection against code in a checkpoint.
    """
    from fastreid.utils.checkpoint import Checkpointer

    original = Checkpointer._load_file

    @functools.wraps(original)
    def _load_file(self: Checkpointer, f: str) -> Any:
        with torch.serialization.safe_globals(numpy_safe_globals()):
            return original(self, f)

    Checkpointer._load_file = _load_file


SHIMS = (
    Shim("zero-grad", _contiguous_step_moves_nothing, _patch_zero_grad),
    Shim("numpy-in-checkpoint", _numpy_in_checkpoint_refused, _patch_load_file),
)
