"""The only workarounds for upstream: FastReID 1.4 on a current Python, torch, torchvision and NumPy.

FastReID's last release predates torch 2.0 and NumPy 1.24. Every workaround is a :class:`Shim` with a feature test, so
that nothing that works is touched; the docstring of each patch gives upstream's file and line, the symptom and the
reason. :func:`apply` runs once, when ``switchablecompat`` is imported, before anything else of FastReID is.
"""

from __future__ import annotations

import importlib
import importlib.util

from . import backbones, checkpoints, deprecations, distributed, imports, loading
from .base import Shim
from .loading import cpu_loader_in_use, use_cpu_loader

__all__ = ["SHIMS", "Shim", "applied", "apply", "cpu_loader_in_use", "use_cpu_loader"]

SHIMS: tuple[Shim, ...] = (
    *imports.SHIMS,
    *loading.SHIMS,
    *checkpoints.SHIMS,
    *backbones.SHIMS,
    *distributed.SHIMS,
    *deprecations.SHIMS,
)

MISSING = (
    "FastReID is not installed: pip install --no-deps fastreid==1.4.0 "
    "(with its dependencies, pip asks for torch 1.13 and finds no torchvision for it)"
)

_applied: tuple[str, ...] | None = None


def apply() -> tuple[str, ...]:
    """Apply every shim that is needed here; a second call does nothing.

    Returns:
        The names of the shims that were needed.

    Raises:
        ImportError: FastReID is not installed.
    """
    global _applied
    if _applied is None:
        if importlib.util.find_spec("fastreid") is None:
            raise ImportError(MISSING, name="fastreid")
        before = [shim.name for shim in SHIMS if shim.before_import and shim.apply()]
        for name in ("data", "engine", "evaluation", "modeling"):
            importlib.import_module(f"fastreid.{name}")
        after = [shim.name for shim in SHIMS if not shim.before_import and shim.apply()]
        _applied = (*before, *after)
    return _applied


def applied() -> tuple[str, ...]:
    """The names of the shims that :func:`apply` found to be needed, for logs and provenance."""
    return _applied or ()
