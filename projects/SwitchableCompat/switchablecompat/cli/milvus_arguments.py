"""The engine Milvus of tools/search.py: its options, and what each command does with it."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import gallery_arguments
import startup
from switchablecompat.deploy.features.shards import open_shards
from switchablecompat.deploy.gallery.columns import read_columns
from switchablecompat.deploy.gallery.faiss_gallery import Gallery
from switchablecompat.deploy.gallery.milvus_collection import FIXED, check_filter, read_state
from switchablecompat.deploy.gallery.milvus_gallery import MilvusGallery
from switchablecompat.deploy.gallery.milvus_load import KEYS, Target, delete_items, load_images, load_shards
from switchablecompat.deploy.gallery.milvus_server import connection
from switchablecompat.deploy.gallery.search import AnyGallery
from switchablecompat.deploy.image_list import items_of_paths
from switchablecompat.errors import InputError, name_some

ENGINES = ("faiss", "milvus")
# Milvus's names; Milvus Lite has FLAT, IVF_FLAT, IVF_SQ8, HNSW and HNSW_SQ, and takes names that it has not
INDEX_TYPES = ("FLAT", "IVF_FLAT", "IVF_SQ8", "IVF_PQ", "IVF_RABITQ", "HNSW", "HNSW_SQ", "HNSW_PQ", "SCANN", "DISKANN",
               "AUTOINDEX", "GPU_CAGRA", "GPU_IVF_FLAT", "GPU_IVF_PQ")  # fmt: skip


def add_engine(parser: startup.Parser) -> None:
    """Which engine, and where it is."""
    parser.add_argument("--engine", choices=ENGINES, default="faiss", help="what keeps the gallery (default faiss)")
    parser.add_argument("--uri", metavar="URI", help="milvus: outputs/gallery.db (embedded), or http://host:19530")
    parser.add_argument("--token", default="", metavar="TEXT", help="milvus: user:password, if the server asks")
    parser.add_argument("--collection", default="gallery", metavar="NAME", help="milvus: (default gallery)")


def add_index(parser: startup.Parser) -> None:
    """How to load a collection."""
    parser.add_argument("--index-type", choices=INDEX_TYPES, default="FLAT", help="milvus: (default FLAT, exact)")
    parser.add_argument("--index-parameters", nargs="+", default=[], metavar="K=V", help="milvus: such as M=32")
    parser.add_argument("--columns", metavar="CSV", help="milvus: further columns of items, by the column path")
    parser.add_argument("--key", choices=KEYS, default="path", help="milvus: what tells items of shards apart")
    parser.add_argument("--again", action="store_true", help="milvus: encode what is there too")


def add_filter(parser: startup.Parser) -> None:
    """Which items."""
    parser.add_argument("--filter", default="", metavar="EXPR", help="milvus: such as 'camid == \"c1\" and time > 900'")


def check(arguments: argparse.Namespace, faiss: Sequence[str]) -> None:
    """Refuse options of the other engine, and what is missing for this one.

    Args:
        arguments: the command line.
        faiss: names of options that FAISS needs, and Milvus has not.
    """
    if arguments.engine == "faiss":
        for name in faiss:
            if getattr(arguments, name) is None:
                raise InputError("command line", f"must have --{name} (see --help)")
        for name in ("uri", "columns", "filter", "again"):
            if getattr(arguments, name, None):
                raise InputError(f"--{name}", "is for --engine milvus", getattr(arguments, name))
        return
    if not arguments.uri:
        raise InputError("command line", "must have --uri with --engine milvus (see --help)")
    for name in faiss:
        if getattr(arguments, name) is not None:
            raise InputError(f"--{name}", "is for --engine faiss", getattr(arguments, name))


def parameters(texts: Sequence[str], option: str) -> dict[str, Any]:
    """``NAME=VALUE`` pairs; values are numbers where they look like ones."""
    found: dict[str, Any] = {}
    for text in texts:
        name, separator, value = text.partition("=")
        if not (separator and name and value):
            raise InputError(option, "must be NAME=VALUE", text)
        number = re.fullmatch(r"-?\d+(\.\d+)?", value)
        found[name] = value if not number else float(value) if number[1] else int(value)
    return found


def run_index(arguments: argparse.Namespace) -> None:
    """Load images or shards into a collection."""
    build = parameters(arguments.index_parameters, "--index-parameters")
    if arguments.shards and arguments.columns:
        raise InputError("--columns", "is for images: shards have none", arguments.columns)
    if arguments.shards:
        files = open_shards(arguments.shards)
    else:
        items, source = gallery_arguments.read_items(arguments, "gallery")
        values, names = read_columns(arguments.columns, items) if arguments.columns else ({}, [])
        encoder = gallery_arguments.read_encoder(arguments)
    with connection(arguments.uri, create=True, token=arguments.token) as client:
        own = (client, arguments.collection, arguments.index_type, build)
        if arguments.shards:
            target = Target(*own, again=arguments.again)
            done, card = load_shards(target, files, name_some(arguments.shards, 1), arguments.key), files[0].card
        else:
            target = Target(*own, values, names, arguments.again)
            done = load_images(
                target, encoder, items, source, batch_size=arguments.batch_size, workers=arguments.workers
            )
            card = encoder.card
        gallery = MilvusGallery(client, arguments.collection)
        encoders = ", ".join(f"{number} by {name}" for name, number in gallery.encoders().items())
        print(
            f"{arguments.uri}, collection {arguments.collection}: {done.added} items added, {done.replaced} replaced, "
            f"{done.skipped} were there, by {card.name} of family {card.family}; "
            f"now {len(gallery)} items ({encoders}), index {gallery.state['index']['type']}"
        )


@contextmanager
def open_gallery(arguments: argparse.Namespace) -> Iterator[AnyGallery]:
    """The gallery that the command line names, in either engine."""
    if arguments.engine == "faiss":
        yield Gallery.open(arguments.gallery, arguments.parameters)
        return
    own = parameters(arguments.parameters.split(","), "--parameters") if arguments.parameters else {}
    with connection(arguments.uri, token=arguments.token) as client:
        yield MilvusGallery(client, arguments.collection, filter=arguments.filter, parameters=own)


def run_delete(arguments: argparse.Namespace) -> None:
    """Delete items."""
    check(arguments, ())
    if arguments.engine != "milvus":
        raise InputError("delete", "is for --engine milvus; a FAISS gallery is made again", arguments.engine)
    if bool(arguments.images) + bool(arguments.filter) + arguments.all != 1:
        raise InputError("command line", "must have --images, --filter or --all (see --help)")
    with connection(arguments.uri, token=arguments.token) as client:
        state = read_state(client, arguments.collection)
        if arguments.all:
            client.drop_collection(arguments.collection)
            print(f"{arguments.uri}, collection {arguments.collection}: deleted")
            return
        check_filter(arguments.filter, (*FIXED, *state["columns"]))
        folders = [path for path in arguments.images or [] if os.path.isdir(path)]
        paths = [*{*(arguments.images or [])} - {*folders}]  # files may be gone already
        paths += [item.path for item in items_of_paths(folders)]
        number = delete_items(client, arguments.collection, paths=paths, filter=arguments.filter)
        print(f"{arguments.uri}, collection {arguments.collection}: {number} items deleted")
