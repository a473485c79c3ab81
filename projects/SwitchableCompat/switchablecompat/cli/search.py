"""Search a gallery of one sub-model with queries of another."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from tabulate import tabulate

from ..deploy.card import ModelCard
from ..deploy.encoder import features_of
from ..deploy.features.shards import open_shards
from ..deploy.gallery.faiss_build import build_from_images, build_from_shards
from ..deploy.gallery.picture import draw_rank_list
from ..deploy.gallery.search import AnyGallery, Hit, Search, check_top, find, measure
from ..errors import InputError, name_some
from ..evaluation.ranking import NoValidQueryError
from ..files import atomic_write, refuse_unwritable, refuse_unwritable_file, write_json
from ..settings import check_comparable
from . import milvus
from .encoders import read_encoder, read_items, reading_of

DEFAULT_TOP = 10


def run_index(arguments: argparse.Namespace) -> None:
    if arguments.engine == "milvus":
        milvus.run_index(arguments)
        return
    factory = arguments.factory or "Flat"
    refuse_unwritable(arguments.output, "--output")
    if arguments.shards:
        source = name_some(arguments.shards, 1)
        card = build_from_shards(open_shards(arguments.shards), arguments.output, factory, source)
    else:
        items, source = read_items(arguments, "gallery")
        encoder = read_encoder(arguments)
        card = build_from_images(encoder, items, arguments.output, factory, source, **reading_of(arguments))
    model = ModelCard.from_dict(card["model"])
    print(
        f"{arguments.output}: {card['num_items']} items by {model.name} of family {model.family}, "
        f"{model.dimension} dimensions; FAISS index {card['factory']} of {card['index_bytes'] / 1e6:.1f} MB"
    )


def run_query(arguments: argparse.Namespace) -> None:
    for option in ("picture", "json"):
        if path := getattr(arguments, option):
            refuse_unwritable_file(path, f"--{option}")
    with milvus.open_gallery(arguments) as gallery:
        search_gallery(arguments, gallery)


def search_gallery(arguments: argparse.Namespace, gallery: AnyGallery) -> None:
    """Search an opened gallery, write the results as JSON, print and draw them."""
    where = f"gallery {arguments.gallery}" if arguments.gallery else f"collection {arguments.collection}"
    top = min(DEFAULT_TOP, len(gallery)) if arguments.top is None else arguments.top
    for number in (top, arguments.depth or 1):
        check_top(gallery, number)
    queries, source = read_items(arguments, "query")
    encoder = read_encoder(arguments)
    check_comparable((f"the {where}", gallery.card.space), ("the query's sub-model", encoder.card.space))
    features = features_of(encoder, queries, **reading_of(arguments))
    found = find(gallery, queries, features, top)
    try:
        result = measure(gallery, queries, features, arguments.depth or gallery.deepest)
    except NoValidQueryError as error:
        result = None
        print(f"no metrics: {error}")
    metrics = result and {"Rank-1": result.rank_k(1), "Rank-5": result.rank_k(5), "mAP": result.mAP}

    title = f"Queries by {encoder.card.name}, gallery by {gallery.encoded_by}"
    subtitle = f"{len(queries)} queries ({source}) on {len(gallery)} items ({gallery.description['source']})"
    if metrics:
        subtitle += ": " + ", ".join(f"{name} {value:.2f}" for name, value in metrics.items())
    height, width = encoder.card.preprocessing["size"]
    search = Search(title, subtitle, queries, found, result, width / height)
    if arguments.json:  # first: the rest can be made from this file again
        own = {"top": top, "metrics": metrics, "parameters": arguments.parameters or gallery.description["parameters"]}
        content = search.to_dict(gallery, arguments.gallery or arguments.uri, encoder.card, **own)
        write_json(arguments.json, content, indent=1)
    show(arguments, search)


def run_show(arguments: argparse.Namespace) -> None:
    if arguments.picture:
        refuse_unwritable_file(arguments.picture, "--picture")
    against = Search.read(arguments.against) if arguments.against else None
    show(arguments, Search.read(arguments.results), against)


def show(arguments: argparse.Namespace, search: Search, against: Search | None = None) -> None:
    """Print a selection of a search's queries, and draw another."""
    queries, found = search.queries, search.found
    shown = search.pick(arguments.pick, arguments.show, against)
    print(tabulate([row for i in shown for row in table_rows(queries[i].path, found[i])], headers="keys"))
    if len(shown) < len(queries):
        print(f"({len(shown)} of {len(queries)} queries; see --show, --pick and --json)")
    print(search.title, search.subtitle, sep="\n")
    if not arguments.picture:
        return
    drawn = search.pick(arguments.pick, arguments.rows, against)
    if not any(found[i] for i in drawn):
        raise InputError("--picture", "must have something to draw", f"{len(drawn)} queries ({arguments.pick})")
    lists = [found[i] for i in drawn]
    page = draw_rank_list([queries[i] for i in drawn], lists, search.title, search.subtitle, search.aspect)
    with atomic_write(arguments.picture) as temporary:
        page.save(temporary, format="PNG")


def table_rows(path: str, hits: Sequence[Hit]) -> list[dict[str, object]]:
    return [
        {"query": Path(path).name if hit.rank == 1 else "", "rank": hit.rank, "score": f"{hit.score:.4f}",
         "match": hit.match or "-", "id": hit.id, "found": Path(hit.item.path).name}
        for hit in hits
    ]  # fmt: skip


def main(arguments: argparse.Namespace) -> None:
    commands = {"index": run_index, "query": run_query, "show": run_show, "delete": milvus.run_delete}
    commands[arguments.command](arguments)
