"""What an index of FAISS costs and loses at size: its memory while it is built, and its recall against exact ranking.

On shards of features that tools/extract.py wrote, or on generated ones at a size for which there are no images yet
(what an index finds in those says little about what it finds in features of images; what it costs is the same).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tabulate import tabulate

import gallery_arguments
import startup
from switchablecompat.deploy.features.feature_file import feature_blocks
from switchablecompat.deploy.features.generated import write_generated
from switchablecompat.deploy.features.shards import open_shards
from switchablecompat.deploy.gallery.faiss_build import build_from_shards
from switchablecompat.deploy.gallery.faiss_gallery import INDEX, Gallery
from switchablecompat.deploy.gallery.faiss_index import create_index, set_parameters
from switchablecompat.deploy.gallery.scoring import exact_neighbours, recall
from switchablecompat.errors import InputError, exit_on_input_error, name_some
from switchablecompat.files import refuse_unwritable, write_json
from switchablecompat.settings import check_comparable

if sys.platform != "win32":
    import resource

EXAMPLES = """examples:
  python tools/try_index.py --generate 2000000 --factory IVF1024,PQ32 --parameters nprobe=8 nprobe=32 \\
      --output outputs/trial
  python tools/try_index.py --shards outputs/shards --queries outputs/query_shards --factory IVF4096,PQ32 \\
      --output outputs/trial
"""

NAMES = {
    "vector": "all vectors",
    "index": "index",
    "peak": "peak memory while it was built",
    "imports": "of which Python and its packages",
}


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = startup.Parser(description=__doc__, epilog=EXAMPLES)
    positive = gallery_arguments.positive
    parser.add_argument("--shards", nargs="+", metavar="DIR", help="features of a gallery")
    parser.add_argument("--queries", nargs="+", metavar="DIR", help="and of queries, by any sub-model of the family")
    parser.add_argument("--generate", type=positive, metavar="N", help="or that many generated ones, and 1000 queries")
    parser.add_argument("--dimension", type=positive, default=128, metavar="D", help="of generated ones (default 128)")
    parser.add_argument("--factory", required=True, metavar="TEXT", help="FAISS's index factory string")
    parser.add_argument(
        "--parameters", nargs="+", default=[""], metavar="TEXT", help="of the search, in turn (default: the index's)"
    )
    parser.add_argument("--top", type=positive, metavar="K", help="neighbours to find (default 10, or all if fewer)")
    parser.add_argument("--output", required=True, metavar="DIR", help="for generated shards, gallery and trial.json")
    arguments = parser.parse_args(argv)
    if bool(arguments.generate) == bool(arguments.shards) or bool(arguments.shards) != bool(arguments.queries):
        parser.error("either --generate, or --shards with --queries, must be given")
    return arguments


def peak_memory() -> int | None:
    """The most memory that this process has had so far, in bytes; None on Windows."""
    if sys.platform == "win32":
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def check_search(arguments: argparse.Namespace, dimension: int, num_vectors: int) -> None:
    """Refuse an index that cannot be made and a search that cannot be done, before time goes into either."""
    index = create_index(dimension, arguments.factory)
    for parameters in arguments.parameters:
        set_parameters(index, parameters)
    arguments.top = arguments.top or min(10, num_vectors)
    if arguments.top > num_vectors:
        raise InputError("--top", f"must be at most the number of vectors, {num_vectors}", arguments.top)


def try_index(arguments: argparse.Namespace) -> None:
    """Build the index, search it, and write what both cost."""
    imports = peak_memory()
    output = Path(arguments.output)
    shards, queries = arguments.shards, arguments.queries
    if arguments.generate:
        check_search(arguments, arguments.dimension, arguments.generate)
        shards, queries = [str(output / "shards")], [str(output / "queries")]
        write_generated(output / "shards", arguments.generate, arguments.dimension)
        write_generated(output / "queries", min(1000, arguments.generate), arguments.dimension, queries=True)
    files, query_files = open_shards(shards), open_shards(queries)
    check_comparable((shards[0], files[0].card.space), *((file.path, file.card.space) for file in query_files))
    check_search(arguments, files[0].card.dimension, sum(file.num_rows for file in files))
    build_from_shards(files, output / "gallery", arguments.factory, name_some(shards, 1))
    peak = peak_memory()

    gallery = Gallery.open(output / "gallery")
    values = np.concatenate([features for _, features in feature_blocks(query_files, "Reading queries")])
    exact = exact_neighbours(files, values, arguments.top)
    name = f"recall@{arguments.top}"
    rows = []
    for parameters in arguments.parameters:
        gallery = Gallery.open(output / "gallery", parameters)
        used = parameters or gallery.description["parameters"] or "-"
        rows.append({"parameters": used, name: round(recall(gallery, values, exact), 2)})
    result = {
        "format": 1,
        "factory": arguments.factory,
        "num_vectors": len(gallery),
        "dimension": gallery.card.dimension,
        "num_queries": len(values),
        "family": gallery.card.family,
        "vector_bytes": 4 * gallery.card.dimension * len(gallery),
        "index_bytes": (gallery.folder / INDEX).stat().st_size,
        "peak_bytes": peak,
        "imports_bytes": imports,
        "recall": rows,
        "versions": gallery.description["versions"],
    }
    write_json(output / "trial.json", result)
    print(f"{len(gallery)} vectors of {gallery.card.dimension} dimensions, {arguments.factory}")
    for key in ("vector", "index", "peak", "imports"):
        if result[f"{key}_bytes"] is not None:
            print(f"{NAMES[key]}: {result[f'{key}_bytes'] / 1e6:.0f} MB")
    print(tabulate(rows, headers="keys"))


def main() -> int:
    """Run the command."""
    arguments = parse_arguments()
    refuse_unwritable(arguments.output, "--output")
    try:
        try_index(arguments)
    except OSError as error:
        raise InputError("--output", "must be a folder that can be written", error) from error
    return 0


if __name__ == "__main__":
    exit_on_input_error(main)
