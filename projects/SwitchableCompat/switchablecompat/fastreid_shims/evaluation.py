"""Evaluation: no compiler, re-ranking without FAISS on the GPU."""

from __future__ import annotations

import functools
from typing import Any

import faiss
import torch

from .base import Shim
from .imports import cython_tool_available

CPU_SEARCH = 3  # compute_jaccard_distance(search_option=3): faiss.IndexFlatL2


def _wait_for_each_other(self: Any) -> None:
    """What is left of ``ReidEvaluator._compile_dependencies``: the barrier after the compilation."""
    from fastreid.utils import comm

    comm.synchronize()


def _evaluator_compiles() -> bool:
    from fastreid.evaluation import ReidEvaluator

    return not cython_tool_available() and ReidEvaluator._compile_dependencies is not _wait_for_each_other


def _patch_compilation() -> None:
    """fastreid/evaluation/reid_evaluation.py:125 runs ``make`` inside the installed package.

    Where Cython, make, a ``python3`` with NumPy or write access is missing, the process ends at its first evaluation:
    ``Making cython reid evaluation module failed, exiting.`` and no traceback. FastReID's Python ranking is its own
    fallback, with the same numbers.
    """
    from fastreid.evaluation import ReidEvaluator

    ReidEvaluator._compile_dependencies = _wait_for_each_other


def gpu_search_available() -> bool:
    """Whether the GPU search that FastReID's re-ranking asks for can run."""
    names = ("StandardGpuResources", "bruteForceKnn", "cast_integer_to_float_ptr", "cast_integer_to_long_ptr")
    return torch.cuda.is_available() and all(hasattr(faiss, name) for name in names)


def _rerank_needs_gpu() -> bool:
    from fastreid.utils import compute_dist

    return not gpu_search_available() and not hasattr(compute_dist.compute_jaccard_distance, "cpu_fallback")


def _patch_rerank() -> None:
    """fastreid/utils/compute_dist.py:53 ``build_dist`` fixes ``search_option=0``, a GPU search.

    ``TEST.RERANK.ENABLED True`` without a GPU: ``RuntimeError: Found no NVIDIA driver``; with a GPU and faiss-cpu:
    ``AttributeError: module 'faiss' has no attribute 'StandardGpuResources'``. The CPU search gives the same ranks.
    """
    from fastreid.utils import compute_dist

    original = compute_dist.compute_jaccard_distance

    @functools.wraps(original)
    def compute_jaccard_distance(
        features: torch.Tensor, k1: int = 20, k2: int = 6, search_option: int = CPU_SEARCH, fp16: bool = False
    ) -> Any:
        return original(features.cpu(), k1=k1, k2=k2, search_option=CPU_SEARCH, fp16=fp16)

    compute_jaccard_distance.cpu_fallback = True  # type: ignore[attr-defined]  # the mark of our function
    compute_dist.compute_jaccard_distance = compute_jaccard_distance


SHIMS = (
    Shim("evaluator-compiles", _evaluator_compiles, _patch_compilation),
    Shim("rerank-on-cpu", _rerank_needs_gpu, _patch_rerank),
)
