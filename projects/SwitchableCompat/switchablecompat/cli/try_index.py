"""Measure the memory and the recall of a large FAISS index."""

import argparse
from pathlib import Path

import numpy as np
from tabulate import tabulate

from ..deploy.features.feature_file import feature_blocks
from ..deploy.features.generated import write_generated
from ..deploy.features.shards import open_shards
from ..deploy.gallery.faiss_build import build_from_shards
from ..deploy.gallery.faiss_gallery import INDEX, Gallery
from ..deploy.gallery.faiss_index import create_index, set_parameters
from ..deploy.gallery.scoring import exact_neighbours, recall
from ..deploy.profiles.engines import peak_memory
from ..errors import InputError, name_some
from ..files import write_json
from ..settings import check_comparable

NAMES = {
    "vector": "all vectors",
    "index": "index",
    "peak": "peak memory while it was built",
    "imports": "of which Python and its packages",
}


def check_search(arguments: argparse.Namespace, dimension: int, num_vectors: int) -> None:
    """Reject an index that cannot be made, or a search that cannot be done, before any work starts."""
    index = create_index(dimension, arguments.factory)
    for parameters in arguments.parameters:
        set_parameters(index, parameters)
    arguments.top = arguments.top or min(10, num_vectors)
    if arguments.top > num_vectors:
        raise InputError("--top", f"must be at most the number of vectors, {num_vectors}", arguments.top)


def main(arguments: argparse.Namespace) -> None:
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
