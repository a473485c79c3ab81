"""What networks compute features in: ``TEST.PRECISION``. Features themselves are float32 always, and so is ranking."""

from __future__ import annotations

import torch

from ..choices import FULL, PRECISIONS
from ..errors import InputError


def computing_in(precision: str, device: torch.device | str) -> torch.autocast:
    """A block whose convolutions and matrix products compute in ``precision``; torch keeps the rest in float32.

    Raises:
        InputError: float16 without a GPU, whose range it was made for.
    """
    kind = torch.device(device).type
    check_precision(precision, kind)
    # without a cache: weights of a switchable layer are other slices at every width
    return torch.autocast(kind, getattr(torch, precision), enabled=precision != FULL, cache_enabled=False)


def check_precision(precision: str, device: str) -> None:
    """Refuse what a device does not compute in.

    Raises:
        InputError: the key and the value found.
    """
    if precision not in PRECISIONS:
        raise InputError("TEST.PRECISION", f"must be one of {list(PRECISIONS)}", repr(precision))
    if precision == "float16" and torch.device(device).type != "cuda":
        raise InputError("TEST.PRECISION", f"must be bfloat16 or {FULL} without a CUDA device", repr(precision))
