"""FAISS and Milvus Lite on the same generated vectors."""

import importlib.metadata
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from switchablecompat.deploy.features.feature_file import feature_blocks
from switchablecompat.deploy.features.generated import write_generated
from switchablecompat.deploy.features.shards import open_shards
from switchablecompat.deploy.gallery.scoring import exact_neighbours
from switchablecompat.deploy.profiles.engines import peak_memory, profile_engine
from switchablecompat.errors import InputError
from switchablecompat.provenance import hardware, versions

from .timing import in_fresh_process

Entry = tuple[str, str, dict[str, int], dict[str, int]]  # engine, index, parameters for building and for searching


def measure(
    entries: Sequence[Entry], vectors: int, dimension: int, queries: int, top: int, output: Path
) -> dict[str, Any]:
    """Generate vectors below ``output``, and measure each engine and index in its own process."""
    imports = peak_memory()
    write_generated(output / "shards", vectors, dimension)
    write_generated(output / "queries", min(queries, vectors), dimension, queries=True)
    asked = np.concatenate([block for _, block in feature_blocks(open_shards([output / "queries"]), "Queries")])
    np.save(output / "queries.npy", asked)
    np.save(output / "exact.npy", exact_neighbours(open_shards([output / "shards"]), asked, top))
    engines = []
    for entry in entries:
        try:
            engines.append(in_fresh_process(measure_one, entry, output))
        except Exception as error:  # of any library, or an end of the process
            raise InputError(" ".join(entry[:2]), "must be measured", repr(error)) from error
    packages = {name: importlib.metadata.version(name.replace("_", "-")) for name in ("milvus_lite", "pymilvus")}
    return {
        "format": 1,
        "num_vectors": vectors,
        "dimension": dimension,
        "vector_bytes": 4 * dimension * vectors,
        "num_queries": len(asked),
        "top": top,
        "imports_bytes": imports or 0,
        "engines": engines,
        "versions": {**versions(), **packages, "faiss": importlib.metadata.version("faiss-cpu")},
        "hardware": hardware(),
    }


def measure_one(entry: Entry, output: Path) -> dict[str, Any]:
    """Measure one engine and index on the files in ``output``."""
    engine, index, build, parameters = entry
    files = open_shards([output / "shards"])
    queries, exact = (np.load(output / f"{name}.npy") for name in ("queries", "exact"))
    with tempfile.TemporaryDirectory(dir=output) as folder:
        return profile_engine(engine, index, files, queries, exact, Path(folder), build=build, parameters=parameters)
