"""Names that FastReID imports and that Python or torch have removed since. Nothing here may import FastReID."""

import collections
import collections.abc
import importlib.util
import sys
import types

from .base import shim


@shim("collections.Mapping", needed=lambda: not hasattr(collections, "Mapping"))
def _provide_mapping() -> None:
    """fastreid/data/build.py and evaluation/testing.py:5 say ``from collections import Mapping``.

    Python 3.10 removed that alias: ``ImportError: cannot import name 'Mapping' from 'collections'``.
    """
    collections.Mapping = collections.abc.Mapping  # type: ignore[attr-defined]  # the name that is missing


@shim("torch._six", needed=lambda: "torch._six" not in sys.modules and not importlib.util.find_spec("torch._six"))
def _provide_six() -> None:
    """fastreid/data/build.py:11 of the wheel says ``from torch._six import string_classes``.

    torch 2.0 removed the module: ``ModuleNotFoundError: No module named 'torch._six'``. A checkout asks for it on
    torch < 1.8 only; there the stand-in is never looked at.
    """
    module = types.ModuleType("torch._six", "Stand-in for the module that torch 2.0 removed.")
    module.string_classes = (str, bytes)  # type: ignore[attr-defined]  # a stand-in
    sys.modules["torch._six"] = module
