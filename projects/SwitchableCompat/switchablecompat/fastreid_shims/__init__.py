"""The only workarounds for upstream: FastReID 1.4 on a current Python, torch, torchvision and NumPy.

FastReID's last release predates torch 2.0 and NumPy 1.24. Every workaround is a :class:`Shim` with a feature test, so
that nothing that works is touched; the docstring of each patch gives upstream's file and line, the symptom and the
reason. :func:`apply` runs once, when ``switchablecompat`` is imported, before anything else of FastReID is.
"""

import importlib
import importlib.util
import warnings
from collections.abc import Iterator

from .base import Shim

MISSING = (
    "FastReID is not installed: pip install --no-deps fastreid==1.4.0 "
    "(with its dependencies, pip asks for torch 1.13 and finds no torchvision for it)"
)

_applied: tuple[str, ...] | None = None


def shims() -> Iterator[Shim]:
    """All shims. FastReID is imported when those are applied without which it cannot be."""
    yield from _of("imports")
    with warnings.catch_warnings():  # it advises to compile a tool; this plug-in ranks without one, and faster
        warnings.filterwarnings("ignore", message=r"Cython (rank|roc) evaluation .* is unavailable")
        for name in ("data", "engine", "evaluation.rank", "evaluation.roc", "modeling"):
            importlib.import_module(f"fastreid.{name}")
    for name in ("loading", "checkpoints", "backbones", "distributed", "deprecations"):
        yield from _of(name)


def _of(module: str) -> list[Shim]:
    return [item for item in vars(importlib.import_module(f".{module}", __name__)).values() if isinstance(item, Shim)]


def apply() -> tuple[str, ...]:
    """Apply every shim that is needed here, once; returns their names. Raises ImportError if FastReID is missing."""
    global _applied
    if _applied is None:
        if importlib.util.find_spec("fastreid") is None:
            raise ImportError(MISSING, name="fastreid")
        _applied = tuple(shim.name for shim in shims() if shim.apply())
    return _applied
