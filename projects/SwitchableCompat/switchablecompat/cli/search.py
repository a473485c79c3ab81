"""Visual search across sub-models: a gallery encoded by one of a family, queries by another.

index   encodes a gallery (images or a data set), or takes shards of features that tools/extract.py wrote, into a
        folder: index.faiss, the features or items as Parquet, and index.json.
query   encodes queries and prints what they find; for a data set also Rank-1, Rank-5 and mAP of the search.
show    prints and draws what query --json has written, without a model: the best, the worst, or the queries that
        another search had right (--against).
delete  takes items out of a gallery in Milvus.

With --engine milvus --uri outputs/gallery.db (embedded) or http://host:19530 the gallery is a collection of Milvus:
index adds to it, replaces what another width has encoded, and continues after an interruption.

Features of two families, or with different dimension, metric or preprocessing, are refused.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from tabulate import tabulate

import gallery_arguments
import milvus_arguments
import startup
from switchablecompat.deploy.card import ModelCard
from switchablecompat.deploy.encoder import features_of
from switchablecompat.deploy.features.shards import open_shards
from switchablecompat.deploy.gallery.faiss_build import build_from_images, build_from_shards
from switchablecompat.deploy.gallery.picture import draw_rank_list
from switchablecompat.deploy.gallery.search import PICKS, AnyGallery, Hit, Search, find, measure
from switchablecompat.errors import InputError, exit_on_input_error, name_some
from switchablecompat.files import atomic_write, refuse_unwritable, refuse_unwritable_file, write_json
from switchablecompat.settings import check_comparable

DEFAULT_TOP = 10
EXAMPLES = """examples:
  python tools/search.py index --weights outputs/demo/model_final.pth --width 1.0 --dataset SyntheticReID \\
      --output outputs/demo/gallery
  python tools/search.py query --gallery outputs/demo/gallery --weights outputs/demo/model_final.pth --width 0.25 \\
      --dataset SyntheticReID --picture outputs/demo/search.png
  python tools/search.py index --shards outputs/shards --factory IVF4096,PQ32 --output outputs/large_gallery
  python tools/search.py query --gallery outputs/large_gallery --model outputs/export/w025-onnx --images query.jpg
  python tools/search.py index --engine milvus --uri outputs/gallery.db --weights outputs/demo/model_final.pth \\
      --width 0.5 --dataset SyntheticReID
  python tools/search.py show --results w025.json --against w100.json --pick flipped --picture flipped.png
"""


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = startup.Parser(description=__doc__, epilog=EXAMPLES)
    commands = parser.add_subparsers(dest="command", required=True, metavar="index|query|show|delete")

    index = commands.add_parser("index", help="make a gallery", description="Make a gallery.")
    gallery_arguments.add_encoder(index)
    gallery_arguments.add_images(index)
    index.add_argument("--shards", nargs="+", metavar="DIR", help="or folders that tools/extract.py wrote")
    index.add_argument("--factory", metavar="TEXT", help="FAISS's index factory string (default Flat)")
    index.add_argument("--output", metavar="DIR", help="folder of the gallery")
    milvus_arguments.add_engine(index)
    milvus_arguments.add_index(index)

    query = commands.add_parser("query", help="search a gallery", description="Search a gallery.")
    query.add_argument("--gallery", metavar="DIR", help="what index has written")
    milvus_arguments.add_engine(query)
    milvus_arguments.add_filter(query)
    gallery_arguments.add_encoder(query)
    gallery_arguments.add_images(query)
    positive = gallery_arguments.positive
    query.add_argument(
        "--top", type=positive, metavar="K", help="items to find (default 10, or all if there are fewer)"
    )
    query.add_argument(
        "--parameters",
        default="",
        metavar="TEXT",
        help="of FAISS's search, such as nprobe=32 (default: the index's)",
    )
    query.add_argument(
        "--depth",
        type=positive,
        metavar="N",
        help="items to rank for the metrics (default: all; matches further down count as not found)",
    )
    query.add_argument("--json", metavar="FILE", help="write what all queries found to this file")
    add_showing(query, PICKS[:-1])

    again = commands.add_parser("show", help="show a search again", description="Show a search again, from its file.")
    again.add_argument("--results", required=True, metavar="FILE", help="what query --json has written")
    again.add_argument("--against", metavar="FILE", help="another one with the same queries, for --pick flipped")
    add_showing(again, PICKS)

    delete = commands.add_parser("delete", help="take items out", description="Take items out of a gallery in Milvus.")
    milvus_arguments.add_engine(delete)
    milvus_arguments.add_filter(delete)
    delete.add_argument("--all", action="store_true", help="all of them, and the collection")
    delete.add_argument("--images", nargs="+", metavar="PATH", help="files, or folders, as they were indexed")
    return parser.parse_args(argv)


def add_showing(parser: startup.Parser, picks: Sequence[str]) -> None:
    """Which queries to print and to draw."""
    positive = gallery_arguments.positive
    parser.add_argument("--show", type=positive, default=5, metavar="N", help="queries in the table (default 5)")
    parser.add_argument("--picture", metavar="PNG", help="draw what queries found")
    parser.add_argument("--rows", type=positive, default=8, metavar="N", help="queries in the picture (default 8)")
    parser.add_argument(
        "--pick",
        choices=picks,
        default="spread",
        help="which queries: spread evenly over all (default), best or worst by average precision"
        + (", or flipped: right at rank 1 in --against, and wrong here" if "flipped" in picks else ""),
    )


def run_index(arguments: argparse.Namespace) -> None:
    """Make a gallery."""
    milvus_arguments.check(arguments, ("output",))
    if arguments.shards and (
        arguments.model or arguments.config_file or arguments.weights or arguments.images or arguments.dataset
    ):
        raise InputError("--shards", "must stand without a model and images: the shards say what they are")
    if arguments.engine == "milvus":
        if arguments.factory:
            raise InputError("--factory", "is for --engine faiss; see --index-type", arguments.factory)
        milvus_arguments.run_index(arguments)
        return
    factory = arguments.factory or "Flat"
    refuse_unwritable(arguments.output, "--output")
    if arguments.shards:
        source = name_some(arguments.shards, 1)
        card = build_from_shards(open_shards(arguments.shards), arguments.output, factory, source)
    else:
        items, source = gallery_arguments.read_items(arguments, "gallery")
        encoder = gallery_arguments.read_encoder(arguments)
        reading = {"batch_size": arguments.batch_size, "workers": arguments.workers}
        card = build_from_images(encoder, items, arguments.output, factory, source, **reading)
    model = ModelCard.from_dict(card["model"])
    print(
        f"{arguments.output}: {card['num_items']} items by {model.name} of family {model.family}, "
        f"{model.dimension} dimensions; FAISS index {card['factory']} of {card['index_bytes'] / 1e6:.1f} MB"
    )


def run_query(arguments: argparse.Namespace) -> None:
    """Search a gallery."""
    for option in ("picture", "json"):
        if path := getattr(arguments, option):
            refuse_unwritable_file(path, f"--{option}")
    milvus_arguments.check(arguments, ("gallery",))
    with milvus_arguments.open_gallery(arguments) as gallery:
        search_gallery(arguments, gallery)


def search_gallery(arguments: argparse.Namespace, gallery: AnyGallery) -> None:
    """Search an opened gallery."""
    where = f"gallery {arguments.gallery}" if arguments.gallery else f"collection {arguments.collection}"
    top = min(DEFAULT_TOP, len(gallery)) if arguments.top is None else arguments.top
    for number in (top, arguments.depth or 1):
        gallery.check_top(number)
    queries, source = gallery_arguments.read_items(arguments, "query")
    encoder = gallery_arguments.read_encoder(arguments)
    check_comparable((f"the {where}", gallery.card.space), ("the query's sub-model", encoder.card.space))
    features = features_of(encoder, queries, arguments.batch_size, workers=arguments.workers)
    found = find(gallery, queries, features, top)
    result = measure(gallery, queries, features, arguments.depth or gallery.deepest)
    metrics = result and {"Rank-1": result.rank_k(1), "Rank-5": result.rank_k(5), "mAP": result.mAP}

    title = f"Queries by {encoder.card.name}, gallery by {gallery.encoded_by}"
    subtitle = f"{len(queries)} queries ({source}) on {len(gallery)} items ({gallery.description['source']})"
    if metrics:
        subtitle += ": " + ", ".join(f"{name} {value:.2f}" for name, value in metrics.items())
    height, width = encoder.card.preprocessing["size"]
    search = Search(title, subtitle, queries, found, result, width / height)
    show(arguments, search)
    if arguments.json:
        own = {"top": top, "metrics": metrics, "parameters": arguments.parameters or gallery.description["parameters"]}
        content = search.to_dict(gallery, arguments.gallery or arguments.uri, encoder.card, **own)
        write_json(arguments.json, content, indent=1)


def run_show(arguments: argparse.Namespace) -> None:
    """Show a search that is over."""
    if arguments.picture:
        refuse_unwritable_file(arguments.picture, "--picture")
    against = Search.read(arguments.against) if arguments.against else None
    show(arguments, Search.read(arguments.results), against)


def show(arguments: argparse.Namespace, search: Search, against: Search | None = None) -> None:
    """Print some queries of a search, and draw some."""
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
    """Rows of the table: what one query found."""
    return [
        {"query": Path(path).name if hit.rank == 1 else "", "rank": hit.rank, "score": f"{hit.score:.4f}",
         "match": hit.match or "-", "id": hit.id, "found": Path(hit.item.path).name}
        for hit in hits
    ]  # fmt: skip


def main() -> int:
    """Run the command."""
    arguments = parse_arguments()
    try:
        commands = {"index": run_index, "query": run_query, "show": run_show, "delete": milvus_arguments.run_delete}
        commands[arguments.command](arguments)
    except OSError as error:
        raise InputError("files", "must be in folders that can be written", error) from error
    return 0


if __name__ == "__main__":
    exit_on_input_error(main)
