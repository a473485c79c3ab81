"""Compare FAISS and Milvus Lite on generated vectors: inserting, searching, recall, disk and peak memory.

Each engine and index is measured in its own process. Writes engines.json.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import itertools
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import startup  # noqa: F401  (before torch is loaded)
from switchablecompat.cli.parsers.shared import Parser, positive
from switchablecompat.deploy.features.feature_file import feature_blocks
from switchablecompat.deploy.features.generated import write_generated
from switchablecompat.deploy.features.shards import open_shards
from switchablecompat.deploy.gallery.scoring import exact_neighbours
from switchablecompat.deploy.profiles.engines import peak_memory, profile_engine, render_engines
from switchablecompat.errors import InputError, exit_on_input_error
from switchablecompat.files import refuse_unwritable, write_json
from switchablecompat.provenance import hardware, versions

EXAMPLES = """example:
  python tools/try_engines.py --generate 100000 --dimension 128 --output outputs/engines
  python tools/try_engines.py --generate 1000000 --index flat ivf --output outputs/engines
"""
Entry = tuple[str, str, dict[str, int], dict[str, int]]  # engine, index, parameters for building and for searching
# The same index in both engines.
ENTRIES: dict[str, tuple[Entry, Entry]] = {
    "flat": (("faiss", "Flat", {}, {}), ("milvus lite", "FLAT", {}, {})),
    "hnsw": (
        ("faiss", "HNSW32", {}, {"efSearch": 64}),
        ("milvus lite", "HNSW", {"M": 32, "efConstruction": 40}, {"ef": 64}),
    ),
    "ivf": (
        ("faiss", "IVF1024,Flat", {}, {"nprobe": 32}),
        ("milvus lite", "IVF_FLAT", {"nlist": 1024}, {"nprobe": 32}),
    ),
}


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(description=__doc__, epilog=EXAMPLES)
    parser.add_argument("--generate", type=positive, default=100_000, metavar="N", help="vectors (default %(default)s)")
    parser.add_argument("--dimension", type=positive, default=128, metavar="D", help="components (default %(default)s)")
    parser.add_argument("--queries", type=positive, default=200, metavar="N", help="queries (default %(default)s)")
    parser.add_argument("--top", type=positive, default=10, metavar="K", help="neighbours (default %(default)s)")
    parser.add_argument(
        "--index", nargs="+", choices=ENTRIES, default=["flat", "hnsw"], help="kinds of index (default: flat hnsw)"
    )
    parser.add_argument("--output", required=True, metavar="DIR", help="folder for vectors and engines.json")
    parser.add_argument("--one", type=int, choices=(0, 1), help=argparse.SUPPRESS)  # engine of this process
    arguments = parser.parse_args(argv)
    if arguments.top > arguments.generate:
        raise InputError("--top", f"must be at most the {arguments.generate} vectors", arguments.top)
    return arguments


def measure_one(kind: str, number: int, output: Path) -> None:
    """Measure one engine, and print the result."""
    engine, index, build, parameters = ENTRIES[kind][number]
    files = open_shards([output / "shards"])
    queries, exact = (np.load(output / f"{name}.npy") for name in ("queries", "exact"))
    with tempfile.TemporaryDirectory(dir=output) as folder:
        found = profile_engine(engine, index, files, queries, exact, Path(folder), build=build, parameters=parameters)
    print(json.dumps(found))


def main() -> int:
    """Run the command."""
    arguments = parse_arguments()
    output = Path(arguments.output)
    if arguments.one is not None:
        measure_one(arguments.index[0], arguments.one, output)
        return 0
    refuse_unwritable(output, "--output")
    imports = peak_memory()
    write_generated(output / "shards", arguments.generate, arguments.dimension)
    number = min(arguments.queries, arguments.generate)
    write_generated(output / "queries", number, arguments.dimension, queries=True)
    files = open_shards([output / "shards"])
    queries = np.concatenate([block for _, block in feature_blocks(open_shards([output / "queries"]), "Queries")])
    np.save(output / "queries.npy", queries)
    np.save(output / "exact.npy", exact_neighbours(files, queries, arguments.top))
    engines = []
    for kind, one in itertools.product(dict.fromkeys(arguments.index), (0, 1)):
        command = [sys.executable, __file__, "--output", str(output), "--index", kind, "--one", str(one)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            raise InputError(" ".join(ENTRIES[kind][one][:2]), "must be measured", f"exit code {done.returncode}")
        engines.append(json.loads(done.stdout.splitlines()[-1]))
    packages = {name: importlib.metadata.version(name.replace("_", "-")) for name in ("milvus_lite", "pymilvus")}
    content = {
        "format": 1,
        "num_vectors": arguments.generate,
        "dimension": arguments.dimension,
        "vector_bytes": 4 * arguments.dimension * arguments.generate,
        "num_queries": len(queries),
        "top": arguments.top,
        "imports_bytes": imports or 0,
        "engines": engines,
        "versions": {**versions(), **packages, "faiss": importlib.metadata.version("faiss-cpu")},
        "hardware": hardware(),
    }
    write_json(output / "engines.json", content)
    print(f"\n{render_engines(content)}\nWritten: {output}/engines.json")
    return 0


if __name__ == "__main__":
    exit_on_input_error(main)
