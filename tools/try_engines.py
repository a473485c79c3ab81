"""Compare FAISS and Milvus Lite on generated vectors: inserting, searching, recall, disk and peak memory.

Each engine and index is measured in its own process. Writes engines.json.
"""

import startup  # noqa: F401  (before torch is loaded)

# isort: split
from pathlib import Path

from switchablecompat.cli.parsers.shared import Parser, positive
from switchablecompat.errors import InputError, exit_on_input_error
from switchablecompat.files import refuse_unwritable, write_json

EXAMPLES = """example:
  python tools/try_engines.py --generate 100000 --dimension 128 --output outputs/engines
  python tools/try_engines.py --generate 1000000 --index flat ivf --output outputs/engines
"""
Entry = tuple[str, str, dict[str, int], dict[str, int]]  # engine, index, parameters for building and for searching
# The same index in both engines.
INDEXES: dict[str, tuple[Entry, Entry]] = {
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


def main() -> None:
    """Run the command."""
    parser = Parser(description=__doc__, epilog=EXAMPLES)
    parser.add_argument("--generate", type=positive, default=100_000, metavar="N", help="vectors (default %(default)s)")
    parser.add_argument("--dimension", type=positive, default=128, metavar="D", help="components (default %(default)s)")
    parser.add_argument("--queries", type=positive, default=200, metavar="N", help="queries (default %(default)s)")
    parser.add_argument("--top", type=positive, default=10, metavar="K", help="neighbours (default %(default)s)")
    parser.add_argument(
        "--index", nargs="+", choices=INDEXES, default=["flat", "hnsw"], help="kinds of index (default: flat hnsw)"
    )
    parser.add_argument("--output", required=True, type=Path, metavar="DIR", help="folder for vectors and engines.json")
    arguments = parser.parse_args()
    if arguments.top > arguments.generate:
        raise InputError("--top", f"must be at most the {arguments.generate} vectors", arguments.top)
    refuse_unwritable(arguments.output, "--output")
    from benchmarks.engines import measure
    from switchablecompat.deploy.profiles.engines import render_engines

    entries = [entry for kind in dict.fromkeys(arguments.index) for entry in INDEXES[kind]]
    size = (arguments.generate, arguments.dimension, arguments.queries, arguments.top)
    content = measure(entries, *size, arguments.output)
    path = write_json(arguments.output / "engines.json", content)
    print(f"\n{render_engines(content)}\nWritten: {path}")


if __name__ == "__main__":
    exit_on_input_error(main)
