"""Number format of the losses. Half precision has too few bits and too small a range for their logarithms."""

import torch
from torch import Tensor


def at_least_float32(x: Tensor) -> Tensor:
    """Convert ``x`` to float32, unless it is float64."""
    return x if x.dtype == torch.float64 else x.float()
