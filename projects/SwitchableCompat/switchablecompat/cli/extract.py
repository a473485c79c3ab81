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
    done = extract(
        encoder,
        items,
        arguments.output,
        shard_size=arguments.shard_size,
        first_id=arguments.first_id,
        process=process,
        skip_unreadable=arguments.skip_unreadable,
        **reading_of(arguments),
    )
    left_out = f", {done.left_out} images left out" if done.left_out else ""
    print(
        f"process {process.rank} of {process.world_size}: {done.written} shards written, {done.there} were there"
        f"{left_out} ({len(items)} images in all, {source})"
    )
