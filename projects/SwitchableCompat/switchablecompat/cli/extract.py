"""Extract features of very many images into Parquet shards."""

import argparse
import logging

from ..deploy.features.shards import Process, extract
from .encoders import read_encoder, read_items, reading_of


def main(arguments: argparse.Namespace) -> None:
    logging.basicConfig(format="%(levelname)s: %(message)s")
    process = Process.from_environment()
    items, source = read_items(arguments, arguments.split)
    encoder = read_encoder(arguments)
    written, skipped = extract(
        encoder,
        items,
        arguments.output,
        shard_size=arguments.shard_size,
        first_id=arguments.first_id,
        process=process,
        skip_unreadable=arguments.skip_unreadable,
        **reading_of(arguments),
    )
    print(
        f"process {process.rank} of {process.world_size}: {written} shards written, {skipped} were there "
        f"({len(items)} images in all, {source})"
    )
