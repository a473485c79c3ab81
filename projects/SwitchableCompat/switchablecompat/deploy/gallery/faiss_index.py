"""FAISS indexes for inner products: made from a factory string, trained on a sample, with errors in one line."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import faiss

from ...errors import InputError
from .faiss_trial import ERROR, reason_against

TRAIN_PER_LIST = 64  # FAISS asks for at least 39 vectors per inverted list, and uses at most 256
TRAIN_LEAST = 65536  # the most vectors that FAISS uses for the codebooks of a product quantiser with 8 bits


def create_index(dimension: int, factory: str) -> faiss.Index:
    """An empty index for inner products, from FAISS's string such as ``Flat``, ``HNSW32`` or ``IVF4096,PQ32``."""
    with faiss_errors("--factory", f"must be an index of FAISS for inner products in {dimension} dimensions"):
        index = faiss.index_factory(dimension, factory, faiss.METRIC_INNER_PRODUCT)
    set_parameters(index, default_parameters(index))
    return index


def check_factory(dimension: int, factory: str, num_features: int) -> None:
    """Reject a string whose index cannot be trained, filled, stored or searched, before any feature is computed."""
    create_index(dimension, factory)
    if num_features and factory != "Flat" and (reason := reason_against(factory, dimension, num_features)):
        raise InputError("--factory", f"{factory} must suit a gallery of {num_features} features", reason)


def default_parameters(index: faiss.Index) -> str:
    """Default search parameters: visit sqrt(n) of n inverted lists, where FAISS's own default is one."""
    inverted = faiss.try_extract_index_ivf(index)
    return "" if inverted is None else f"nprobe={math.isqrt(inverted.nlist)}"


def set_parameters(index: faiss.Index, parameters: str) -> None:
    """Set search parameters such as ``nprobe=32`` or ``efSearch=64``. An empty string changes nothing."""
    if parameters:
        with faiss_errors("--parameters", f"must be NAME=VALUE that this index has, not {parameters}"):
            space: Any = faiss.ParameterSpace()  # its annotations allow only numbers
            space.set_index_parameters(index, parameters)


def sample_size(index: faiss.Index) -> int:
    """How many vectors to train an index on."""
    inverted = faiss.try_extract_index_ivf(index)
    return max(TRAIN_LEAST, TRAIN_PER_LIST * (0 if inverted is None else inverted.nlist))


def read_index(path: Path, size: int) -> faiss.Index:
    """Read FAISS's file of ``size`` bytes."""
    found = path.stat().st_size if path.is_file() else "no such file"
    if found != size:
        raise InputError(path, f"must be a FAISS index of {size} bytes", found)
    with faiss_errors(path, "must be a FAISS index"):
        return faiss.read_index(str(path))


@contextmanager
def faiss_errors(subject: object, rule: str) -> Iterator[None]:
    """Turn FAISS's errors into one line."""
    try:
        yield
    except RuntimeError as error:
        raise InputError(subject, rule, ERROR.sub("", str(error).split("\n")[0])) from None
