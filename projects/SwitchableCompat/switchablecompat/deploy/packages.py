"""Packages that only deployment needs."""

from __future__ import annotations

import importlib
from types import ModuleType

from ..errors import InputError


def optional(package: str, use: str, extra: str = "deploy") -> ModuleType:
    """Import a package that may be missing.

    Raises:
        InputError: It is not installed; says how to get it.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise InputError(package, f"is needed {use}: pip install '.[{extra}]'", error) from None
