"""Packages that only deployment needs."""

import importlib
from types import ModuleType

from ..errors import InputError


def optional(package: str, use: str, extra: str = "deploy") -> ModuleType:
    """Import an optional package. The error for a missing one says how to install it."""
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise InputError(package, f"is needed {use}: pip install 'switchablecompat[{extra}]'", error) from None
