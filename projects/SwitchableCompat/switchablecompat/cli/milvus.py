"""The command search with the engine Milvus."""

import argparse
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from ..deploy.features.shards import open_shards
from ..deploy.gallery.columns import read_columns
from ..deploy.gallery.faiss_gallery import Gallery
from ..deploy.gallery.milvus_collection import FIXED, check_filter, read_state
from ..deploy.gallery.milvus_gallery import MilvusGallery
from ..deploy.gallery.milvus_load import Target, delete_items, load_images, load_shards
from ..deploy.gallery.milvus_server import connection
from ..deploy.gallery.search import AnyGallery
from ..deploy.image_list import list_images
from ..errors import InputError, name_some
from .encoders import read_encoder, read_items, reading_of


def parameters(texts: Sequence[str], option: str) -> dict[str, Any]:
    """Parse ``NAME=VALUE`` pairs. A value that looks like a number becomes one."""
    found: dict[str, Any] = {}
    for text in texts:
        name, separator, value = text.partition("=")
        if not (separator and name and value):
            raise InputError(option, "must be NAME=VALUE", text)
        number = re.fullmatch(r"-?\d+(\.\d+)?", value)
        found[name] = value if not number else float(value) if number[1] else int(value)
    return found


def check_index(client: Any, collection: str, index_type: str | None, build: Mapping[str, Any]) -> None:
    """Reject an index that is asked for where the collection exists already, and keeps another one."""
    if not (index_type or build) or not client.has_collection(collection):
        return
    there = read_state(client, collection)["index"]
    if index_type and index_type != there["type"]:
        raise InputError("--index-type", f"must be that of the collection {collection}, {there['type']}", index_type)
    for name, value in build.items():
        if value != there.get(name):
            rule = f"must be those of the collection {collection}, {name}={there.get(name)}"
            raise InputError("--index-parameters", rule, f"{name}={value}")


def run_index(arguments: argparse.Namespace) -> None:
    build = parameters(arguments.index_parameters or [], "--index-parameters")
    if arguments.shards:
        files = open_shards(arguments.shards)
    else:
        items, source = read_items(arguments, "gallery")
        values, names = read_columns(arguments.columns, items) if arguments.columns else ({}, [])
        encoder = read_encoder(arguments)
    with connection(arguments.uri, create=True, token=arguments.token) as client:
        check_index(client, arguments.collection, arguments.index_type, build)
        own = (client, arguments.collection, arguments.index_type or "FLAT", build)
        if arguments.shards:
            target = Target(*own, again=arguments.again)
            done, card = load_shards(target, files, name_some(arguments.shards, 1), arguments.key), files[0].card
        else:
            target = Target(*own, values, names, arguments.again)
            done = load_images(target, encoder, items, source, **reading_of(arguments))
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
    """Open the gallery that the command line names, in either engine."""
    if arguments.engine == "faiss":
        yield Gallery.open(arguments.gallery, arguments.parameters)
        return
    own = parameters(arguments.parameters.split(","), "--parameters") if arguments.parameters else {}
    with connection(arguments.uri, token=arguments.token) as client:
        yield MilvusGallery(client, arguments.collection, filter=arguments.filter, parameters=own)


def run_delete(arguments: argparse.Namespace) -> None:
    with connection(arguments.uri, token=arguments.token) as client:
        state = read_state(client, arguments.collection)
        if arguments.all:
            client.drop_collection(arguments.collection)
            print(f"{arguments.uri}, collection {arguments.collection}: deleted")
            return
        check_filter(arguments.filter, (*FIXED, *state["columns"]))
        folders = [path for path in arguments.images or [] if os.path.isdir(path)]
        paths = [*{*(arguments.images or [])} - {*folders}]  # the files need not exist any more
        paths += [str(path) for folder in folders for path in list_images(folder)]  # with links to others
        number = delete_items(client, arguments.collection, paths=paths, filter=arguments.filter)
        print(f"{arguments.uri}, collection {arguments.collection}: {number} items deleted")
