"""Features of very many images as Parquet shards, by any number of processes and machines.

Each process takes its share of the shards; torchrun says which. The same command after an interruption, with as many
processes or others, continues: finished shards are skipped. tools/search.py index --shards makes a gallery of them.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence

import gallery_arguments
import startup
from switchablecompat.deploy.features.shards import Process, extract
from switchablecompat.errors import InputError, exit_on_input_error
from switchablecompat.files import refuse_unwritable

EXAMPLES = """examples:
  python tools/extract.py --model outputs/export/w100-onnx --images my_images --output outputs/shards
  torchrun --nproc-per-node 4 tools/extract.py --weights outputs/demo/model_final.pth --width 1.0 --images my_images \\
      --output outputs/shards
"""


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = startup.Parser(description=__doc__, epilog=EXAMPLES)
    gallery_arguments.add_encoder(parser)
    gallery_arguments.add_images(parser)
    parser.add_argument("--split", choices=("gallery", "query"), default="gallery", help="of --dataset (gallery)")
    parser.add_argument("--output", required=True, metavar="DIR", help="folder of the shards")
    parser.add_argument(
        "--shard-size", type=gallery_arguments.positive, default=65536, metavar="N", help="images each (default 65536)"
    )
    parser.add_argument(
        "--first-id",
        type=gallery_arguments.natural,
        default=0,
        metavar="N",
        help="id of the first image; the others count on (default 0)",
    )
    parser.add_argument("--skip-unreadable", action="store_true", help="leave out what cannot be read, with a warning")
    return parser.parse_args(argv)


def main() -> int:
    """Run the command."""
    arguments = parse_arguments()
    logging.basicConfig(format="%(levelname)s: %(message)s")
    process = Process.from_environment()
    refuse_unwritable(arguments.output, "--output")
    items, source = gallery_arguments.read_items(arguments, arguments.split)
    encoder = gallery_arguments.read_encoder(arguments)
    try:
        written, skipped = extract(
            encoder,
            items,
            arguments.output,
            shard_size=arguments.shard_size,
            first_id=arguments.first_id,
            process=process,
            batch_size=arguments.batch_size,
            workers=arguments.workers,
            skip_unreadable=arguments.skip_unreadable,
        )
    except OSError as error:
        raise InputError("--output", "must be a folder that can be written", error) from error
    print(
        f"process {process.rank} of {process.world_size}: {written} shards written, {skipped} were there "
        f"({len(items)} images in all, {source})"
    )
    return 0


if __name__ == "__main__":
    exit_on_input_error(main)
