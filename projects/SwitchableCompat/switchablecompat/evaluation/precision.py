"""The precision of feature extraction, ``TEST.PRECISION``. Features and rankings themselves are always float32."""

import torch

from ..choices import FULL, PRECISIONS
from ..errors import InputError


def computing_in(precision: str, device: torch.device | str) -> torch.autocast:
    """A context in which convolutions and matrix products use ``precision``. torch keeps the rest in float32."""
    kind = torch.device(device).type
    check_precision(precision, kind)
    # No cache, because a switchable layer uses different slices of its weights at every width.
    return torch.autocast(kind, getattr(torch, precision), enabled=precision != FULL, cache_enabled=False)


def check_precision(precision: str, device: str) -> None:
    """Reject a precision that the device does not support, that is, float16 without a GPU."""
    if precision not in PRECISIONS:
        raise InputError("TEST.PRECISION", f"must be one of {list(PRECISIONS)}", repr(precision))
    if precision == "float16" and torch.device(device).type != "cuda":
        raise InputError("TEST.PRECISION", f"must be bfloat16 or {FULL} without a CUDA device", repr(precision))
