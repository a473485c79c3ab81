"""Commands that extract features and measure large indexes of them."""

import argparse

from .shared import Parser, add_encoder, add_images, add_output, bad_usage, check_encoding, natural, positive
from .unread import fill_in, refuse_unread


def extract(parser: Parser) -> None:
    """Extract features of very many images into Parquet shards, with any number of processes and machines.

    torchrun gives each process its share of the shards. After an interruption, the same command continues with the same
    or another number of processes, and skips finished shards. "search index --shards" makes a gallery of the shards.

    examples:
      %(prog)s --model outputs/export/w100-onnx --images my_images --output outputs/shards
      torchrun --nproc-per-node 4 -m switchablecompat_command extract --weights outputs/demo/model_final.pth \\
          --width 1.0 --images my_images --output outputs/shards
    """
    add_encoder(parser)
    add_images(parser)
    parser.add_argument("--split", choices=("gallery", "query"), help="of --dataset (default gallery)")
    add_output(parser, "folder of the shards")
    parser.add_argument(
        "--shard-size", type=positive, default=65536, metavar="N", help="images in each (default 65536)"
    )
    first = "id of the first image; the ids of the others follow (default 0)"
    parser.add_argument("--first-id", type=natural, default=0, metavar="N", help=first)
    parser.add_argument("--skip-unreadable", action="store_true", help="skip unreadable images with a warning")
    parser.checks += [check_encoding, _check_split]


def _check_split(arguments: argparse.Namespace) -> None:
    if arguments.images:
        refuse_unread(arguments, "is for --dataset; images are in no split", "split")
    fill_in(arguments, split="gallery")


def try_index(parser: Parser) -> None:
    """Measure a large FAISS index: its memory while it is built, and its recall against exact ranking.

    Uses shards of features that "extract" wrote, or generated features, for a size for which there are no images yet.
    Generated features give the same cost, but their recall says little about the recall on features of images.

    examples:
      %(prog)s --generate 2000000 --factory IVF1024,PQ32 --parameters nprobe=8 nprobe=32 --output outputs/trial
      %(prog)s --shards outputs/shards --queries outputs/query_shards --factory IVF4096,PQ32 --output outputs/trial
    """
    parser.add_argument("--shards", nargs="+", metavar="DIR", help="features of a gallery")
    parser.add_argument("--queries", nargs="+", metavar="DIR", help="features of queries, by any of the family")
    parser.add_argument("--generate", type=positive, metavar="N", help="instead: N generated features and 1000 queries")
    parser.add_argument("--dimension", type=positive, metavar="D", help="of the generated (default 128)")
    parser.add_argument("--factory", required=True, metavar="TEXT", help="FAISS's index factory string")
    own = "parameters of the search, tried in turn (default: the index's)"
    parser.add_argument("--parameters", nargs="+", default=[""], metavar="TEXT", help=own)
    parser.add_argument("--top", type=positive, metavar="K", help="neighbours to find (default 10, or all if fewer)")
    add_output(parser, "folder for generated shards, gallery and trial.json")
    parser.checks.append(_check_trial)


def _check_trial(arguments: argparse.Namespace) -> None:
    if bool(arguments.generate) == bool(arguments.shards) or bool(arguments.shards) != bool(arguments.queries):
        raise bad_usage("either --generate, or --shards with --queries, must be given")
    if arguments.shards:
        refuse_unread(arguments, "is for --generate; shards have their own", "dimension")
    fill_in(arguments, dimension=128)
