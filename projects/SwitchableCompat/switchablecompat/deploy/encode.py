"""From image files to features, batch by batch, with the next batches read in the meantime."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from ..errors import InputError
from .encoder import Encoder
from .feature_file import feature_schema, parquet_writer, record_batch
from .images import read_images
from .items import Item

logger = logging.getLogger("fastreid.switchablecompat.encode")


class Encoded(NamedTuple):
    """A batch of images: their positions in the list, the images, and their features ``[n, D]``, L2-normalised."""

    positions: list[int]
    items: list[Item]
    features: np.ndarray


def encode(
    encoder: Encoder, items: Sequence[Item], *, batch_size: int = 64, workers: int = 2, skip_unreadable: bool = False
) -> Iterator[Encoded]:
    """Encode images in order.

    Args:
        encoder: the sub-model.
        items: the images.
        batch_size: images that it gets at a time.
        workers: threads that read, a batch each.
        skip_unreadable: leave out images that cannot be read, with a warning, instead of an error.

    Raises:
        InputError: an image that cannot be read.
    """

    def read(start: int) -> tuple[list[int], Tensor | None]:
        positions = list(range(start, min(start + batch_size, len(items))))
        if not skip_unreadable:
            return positions, read_images([items[i].path for i in positions], encoder.card.preprocessing)
        kept, images = [], []
        for position in positions:
            try:
                images.append(read_images([items[position].path], encoder.card.preprocessing))
                kept.append(position)
            except InputError as error:
                logger.warning(f"left out: {error}")
        return kept, torch.cat(images) if kept else None

    starts = iter(range(0, len(items), batch_size))
    with ThreadPoolExecutor(workers) as pool:
        reading = deque(pool.submit(read, start) for start in islice(starts, workers + 1))
        try:
            while reading:
                positions, images = reading.popleft().result()
                reading.extend(pool.submit(read, start) for start in islice(starts, 1))
                if images is not None:
                    yield Encoded(positions, [items[i] for i in positions], encoder(images).numpy())
        finally:
            for future in reading:
                future.cancel()


def write_features(
    path: Path,
    encoder: Encoder,
    batches: Iterable[Encoded],
    progress: tqdm,
    first_id: int = 0,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write encoded images as a feature file, whose ids are their positions from ``first_id`` on."""
    schema = feature_schema(encoder.card, metadata=metadata)
    with parquet_writer(path, schema) as write:
        for positions, items, features in batches:
            ids = [first_id + position for position in positions]
            write(record_batch(schema, encoder.card, ids, items, features))
            progress.update(len(items))
