"""Names that FastReID imports and that Python, torch or NumPy have removed since."""

from __future__ import annotations

import collections
import collections.abc
import importlib
import importlib.util
import sys
import types
import warnings

from .base import Shim

CYTHON_WARNINGS = r"Cython (rank|roc) evaluation \(very fast so highly recommended\) is unavailable"


def _mapping_missing() -> bool:
    return not hasattr(collections, "Mapping")


def _provide_mapping() -> None:
    """fastreid/data/build.py and evaluation/testing.py:5 say ``from collections import Mapping``.

    Python 3.10 removed that alias: ``ImportError: cannot import name 'Mapping' from 'collections'``.
    """
    collections.Mapping = collections.abc.Mapping  # type: ignore[attr-defined]  # the name that is missing


def _six_missing() -> bool:
    return "torch._six" not in sys.modules and importlib.util.find_spec("torch._six") is None


def _provide_six() -> None:
    """fastreid/data/build.py:11 of the wheel says ``from torch._six import string_classes``.

    torch 2.0 removed the module: ``ModuleNotFoundError: No module named 'torch._six'``. A checkout asks for it on
    torch < 1.8 only; there the stand-in is never looked at.
    """
    module = types.ModuleType("torch._six", "Stand-in for the module that torch 2.0 removed.")
    module.string_classes = (str, bytes)  # type: ignore[attr-defined]  # a stand-in
    sys.modules["torch._six"] = module


def cython_tool_available() -> bool:
    """Whether somebody compiled FastReID's Cython evaluation tool into this installation."""
    try:
        importlib.import_module("fastreid.evaluation.rank_cylib.rank_cy")
    except ImportError:
        return False
    return True


_RANKING_MODULES = ("fastreid.evaluation.rank", "fastreid.evaluation.roc")


def _cython_warnings_ahead() -> bool:
    return not cython_tool_available() and any(name not in sys.modules for name in _RANKING_MODULES)


def _import_ranking_quietly() -> None:
    """fastreid/evaluation/rank.py:15 and roc.py:17 warn at import that the Cython tool is unavailable.

    The advice does not apply: this plug-in ranks without a compiler, faster than the tool. Importing the two modules
    here, once, silences these two lines and leaves the warning filters of the user as they are.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=CYTHON_WARNINGS, category=UserWarning)
        for name in _RANKING_MODULES:
            importlib.import_module(name)


SHIMS = (
    Shim("collections.Mapping", _mapping_missing, _provide_mapping, before_import=True),
    Shim("torch._six", _six_missing, _provide_six, before_import=True),
    Shim("cython-warnings", _cython_warnings_ahead, _import_ranking_quietly),
)
