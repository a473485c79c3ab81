"""Training and evaluation modes, module by module."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def kept_modes(model: nn.Module) -> Iterator[None]:
    """Restore the mode of every module at the end of the block, even on errors.

    ``model.train()`` would also affect modules that are frozen in evaluation mode.
    """
    modes = {module: module.training for module in model.modules()}
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
