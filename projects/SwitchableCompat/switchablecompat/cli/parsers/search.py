"""The command that searches galleries, in FAISS or in Milvus."""

import argparse
from collections.abc import Sequence

from ...choices import ITEM_KEYS, PICKS
from ...errors import InputError
from .shared import Parser, add_encoder, add_images, bad_usage, check_encoding, positive
from .unread import fill_in, refuse_token, refuse_unread

# Milvus's names. Milvus Lite has FLAT, IVF_FLAT, IVF_SQ8, HNSW and HNSW_SQ, but also accepts names that it lacks.
INDEX_TYPES = ("FLAT", "IVF_FLAT", "IVF_SQ8", "IVF_PQ", "IVF_RABITQ", "HNSW", "HNSW_SQ", "HNSW_PQ", "SCANN", "DISKANN",
               "AUTOINDEX", "GPU_CAGRA", "GPU_IVF_FLAT", "GPU_IVF_PQ")  # fmt: skip


def search(parser: Parser) -> None:
    """Search a gallery encoded by one sub-model of a family with queries of another.

    index   makes a gallery of images, of a data set, or of shards that "extract" wrote. Writes a folder with
            index.faiss, the features or items as Parquet, and index.json.
    query   encodes queries and prints their results. For a data set it also prints Rank-1, Rank-5 and mAP.
    show    prints and draws the file of "query --json", without a model: the best or the worst queries, or those that
            another search (--against) had right.
    delete  deletes items from a gallery in Milvus.

    With --engine milvus --uri outputs/gallery.db (embedded) or http://host:19530 the gallery is a collection of Milvus:
    index adds to it, replaces items that another width encoded, and continues after an interruption.

    Features of different families, dimensions, metrics or preprocessing are rejected.

    examples:
      %(prog)s index --weights outputs/demo/model_final.pth --width 1.0 --dataset SyntheticReID --output outputs/demo/gallery
      %(prog)s query --gallery outputs/demo/gallery --model outputs/export/w025-onnx --images query.jpg
      %(prog)s index --shards outputs/shards --factory IVF4096,PQ32 --output outputs/large_gallery
      %(prog)s show --results w025.json --against w100.json --pick flipped --picture flipped.png
    """  # noqa: E501  (a command is one line)
    commands = parser.add_subparsers(dest="command", required=True, metavar="index|query|show|delete")
    parser.checks.append(_check_search)

    index = commands.add_parser("index", help="make a gallery", description="Make a gallery.")
    add_encoder(index)
    add_images(index)
    index.add_argument("--shards", nargs="+", metavar="DIR", help='instead of images: folders that "extract" wrote')
    index.add_argument("--factory", metavar="TEXT", help="FAISS's index factory string (default Flat)")
    index.add_argument("--output", metavar="DIR", help="folder of the gallery")
    _add_engine(index)
    index.add_argument("--index-type", choices=INDEX_TYPES, help="milvus: default FLAT, exact")
    index.add_argument("--index-parameters", nargs="+", metavar="K=V", help="milvus: such as M=32")
    index.add_argument("--columns", metavar="CSV", help="milvus: more columns of the items, matched by the column path")
    index.add_argument("--key", choices=ITEM_KEYS, help="milvus: column that identifies shards' items (default path)")
    index.add_argument("--again", action="store_true", help="milvus: also re-encode items that are already there")

    query = commands.add_parser("query", help="search a gallery", description="Search a gallery.")
    query.add_argument("--gallery", metavar="DIR", help='folder that "index" wrote')
    _add_engine(query)
    _add_filter(query)
    add_encoder(query)
    add_images(query)
    query.add_argument("--top", type=positive, metavar="K", help="items to find (default 10, or all if fewer)")
    own = "parameters of FAISS's search, such as nprobe=32 (default: the index's)"
    query.add_argument("--parameters", default="", metavar="TEXT", help=own)
    depth = "items to rank for the metrics (default: all); matches below them count as not found"
    query.add_argument("--depth", type=positive, metavar="N", help=depth)
    query.add_argument("--json", metavar="FILE", help="write the results of all queries to this file")
    _add_showing(query, PICKS[:-1])

    again = commands.add_parser("show", help="show a search again", description="Show a search again, from its file.")
    again.add_argument("--results", required=True, metavar="FILE", help='file of "query --json"')
    again.add_argument("--against", metavar="FILE", help="file of a search with the same queries, for --pick flipped")
    _add_showing(again, PICKS)

    delete = commands.add_parser("delete", help="delete items", description="Delete items from a gallery in Milvus.")
    _add_engine(delete)
    _add_filter(delete)
    delete.add_argument("--all", action="store_true", help="delete the whole collection")
    delete.add_argument("--images", nargs="+", metavar="PATH", help="files or folders, as they were indexed")


def _add_engine(parser: Parser) -> None:
    engines = "engine that holds the gallery (default faiss)"
    parser.add_argument("--engine", choices=("faiss", "milvus"), default="faiss", help=engines)
    parser.add_argument("--uri", metavar="URI", help="milvus: outputs/gallery.db (embedded), or http://host:19530")
    parser.add_argument("--token", metavar="TEXT", help="milvus: user:password, if the server requires it")
    parser.add_argument("--collection", metavar="NAME", help="milvus: collection (default gallery)")


def _add_filter(parser: Parser) -> None:
    parser.add_argument("--filter", default="", metavar="EXPR", help="milvus: such as 'camid == \"c1\" and time > 900'")


def _add_showing(parser: Parser, picks: Sequence[str]) -> None:
    parser.add_argument("--show", type=positive, default=5, metavar="N", help="queries in the table (default 5)")
    parser.add_argument("--picture", metavar="PNG", help="draw the results of some queries")
    parser.add_argument("--rows", type=positive, metavar="N", help="queries in the picture (default 8)")
    which = "which queries: spread evenly over all (default), best or worst by average precision"
    flipped = ", or flipped: right at rank 1 in --against, and wrong here" if "flipped" in picks else ""
    parser.add_argument("--pick", choices=picks, default="spread", help=which + flipped)


def _check_search(arguments: argparse.Namespace) -> None:
    """Reject options of another engine or source, and missing options."""
    if arguments.command == "index":
        _check_index(arguments)
    elif arguments.command == "query":
        _check_engine(arguments, "gallery")
        check_encoding(arguments)
        if arguments.images:
            refuse_unread(arguments, "is for --dataset; images without identities have no metrics", "depth")
        _check_showing(arguments)
    elif arguments.command == "show":
        if arguments.pick != "flipped":
            refuse_unread(arguments, "is for --pick flipped", "against")
        _check_showing(arguments)
    elif arguments.command == "delete":
        _check_engine(arguments)
        if arguments.engine != "milvus":
            raise InputError("delete", "is for --engine milvus; a FAISS gallery is made again", arguments.engine)
        if bool(arguments.images) + bool(arguments.filter) + arguments.all != 1:
            raise bad_usage("must have --images, --filter or --all")


def _check_index(arguments: argparse.Namespace) -> None:
    _check_engine(arguments, "output")
    if arguments.engine == "milvus":
        refuse_unread(arguments, "is for --engine faiss; see --index-type", "factory")
    if not arguments.shards:
        refuse_unread(arguments, "is for --shards; the path identifies images", "key")
        check_encoding(arguments)
    else:
        own = (arguments.model, arguments.config_file, arguments.weights, arguments.images, arguments.dataset)
        if any(own):
            raise InputError("--shards", "must stand without a model and images: the shards say what they are")
        refuse_unread(arguments, "is for images: shards have none", "columns")
        encoding = ("width", "device", "precision", "batch_size", "workers", "manifest")
        refuse_unread(arguments, "is for images: shards are encoded", *encoding)
    fill_in(arguments, key="path")


def _check_engine(arguments: argparse.Namespace, faiss: str = "") -> None:
    """Reject a mix of engines. ``faiss`` names the option that FAISS requires and Milvus does not have."""
    if arguments.engine == "milvus":
        if not arguments.uri:
            raise bad_usage("must have --uri with --engine milvus")
        refuse_unread(arguments, "is for --engine faiss", *([faiss] if faiss else []))
        refuse_token(arguments)
    else:
        milvus = ("uri", "token", "collection", "index_type", "index_parameters", "columns", "key", "again", "filter")
        refuse_unread(arguments, "is for --engine milvus", *milvus)
        if faiss and getattr(arguments, faiss) is None:
            raise bad_usage(f"must have --{faiss}")
    fill_in(arguments, token="", collection="gallery")


def _check_showing(arguments: argparse.Namespace) -> None:
    if not arguments.picture:
        refuse_unread(arguments, "is for --picture", "rows")
    fill_in(arguments, rows=8)
