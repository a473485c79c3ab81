"""Build a gallery from images or from shards of features, block by block.

Memory holds the index, a sample to train it if needed, one block, and 8 bytes per image to find duplicate ids.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pyarrow as pa
from tqdm import tqdm

from ...errors import InputError
from ...files import atomic_folder
from ...provenance import versions
from ..encoder import Encoder, encode
from ..features.feature_file import (
    FeatureFile,
    check_shards,
    feature_blocks,
    feature_schema,
    parquet_writer,
    write_features,
)
from ..image_list import LabelledImage
from .faiss_gallery import CARD, FORMAT, INDEX, ITEMS
from .faiss_index import check_factory, create_index, default_parameters, faiss_errors, sample_size


def build_from_images(
    encoder: Encoder, items: Sequence[LabelledImage], output: str | Path, factory: str, source: str, **reading: Any
) -> dict[str, Any]:
    """Encode images and write them as a gallery, features included; return its card.

    Args:
        encoder, items: the sub-model, and the images; their ids are their positions.
        output: folder. Its files appear when all are complete, and replace an existing gallery.
        factory, source: FAISS's index factory string, and a description of the images' origin, for the card.
        **reading: ``batch_size`` and ``workers`` of :func:`~..encoder.encode`.

    Raises:
        InputError: an unreadable image, an unsuitable factory string, or a folder with other content.
    """
    _check_output(Path(output))
    check_factory(encoder.card.dimension, factory, len(items))
    with atomic_folder(output, last=CARD) as folder:
        with tqdm(total=len(items), desc="Encoding", unit="image") as progress:
            write_features(folder / ITEMS, encoder, encode(encoder, items, **reading), progress)
        return _write(folder, [FeatureFile(folder / ITEMS)], factory, source)


def build_from_shards(files: Sequence[FeatureFile], output: str | Path, factory: str, source: str) -> dict[str, Any]:
    """Write the images of one or more feature files as a gallery. The features stay in their files."""
    _check_output(Path(output))
    check_shards(files)
    check_factory(files[0].card.dimension, factory, sum(file.num_rows for file in files))
    with atomic_folder(output, last=CARD) as folder:
        return _write(folder, files, factory, source)


def sample_features(files: Sequence[FeatureFile], size: int) -> np.ndarray:
    """Sample ``size`` features from all parts of the files, ``[n, D]``; take all if there are fewer."""
    num_items = sum(file.num_rows for file in files)
    size = min(size, num_items)
    sample = np.empty((size, files[0].card.dimension), dtype=np.float32)
    generator = np.random.default_rng(0)
    seen = taken = 0
    for _, features in feature_blocks(files, "Sampling"):
        seen += len(features)
        start, taken = taken, size * seen // num_items  # each block contributes in proportion to its size
        sample[start:taken] = features[np.sort(generator.choice(len(features), taken - start, replace=False))]
    return sample


def _write(folder: Path, files: Sequence[FeatureFile], factory: str, source: str) -> dict[str, Any]:
    """Write index, items (unless they exist) and card into a temporary folder; return the card."""
    card = files[0].card
    num_items = sum(file.num_rows for file in files)
    if not num_items:
        raise InputError("gallery", "must have at least one image", 0)
    index = create_index(card.dimension, factory)
    with faiss_errors("--factory", f"{factory} must suit a gallery of {num_items} features"):
        if not index.is_trained:
            index.train(sample_features(files, sample_size(index)))
        if files[0].path.parent == folder:  # this feature file already holds the items
            for _, features in feature_blocks(files, "Adding"):
                index.add(features)
        else:
            schema = feature_schema(card, features=False)
            with parquet_writer(folder / ITEMS, schema) as write:
                for batch, features in feature_blocks(files, "Adding"):
                    index.add(features)
                    write(batch.select(schema.names))
    with faiss_errors("--output", "must be a folder that can be written"):
        faiss.write_index(index, str(folder / INDEX))
    description = {
        "format": FORMAT,
        "num_items": num_items,
        "factory": factory,
        "parameters": default_parameters(index),
        "index_bytes": (folder / INDEX).stat().st_size,
        "source": source,
        "versions": {**versions(), "faiss": faiss.__version__, "pyarrow": pa.__version__},
        "model": card.to_dict(),
    }
    (folder / CARD).write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")
    return description


def _check_output(folder: Path) -> None:
    """Reject a folder that holds anything but a gallery, complete or interrupted."""
    if folder.is_file() or (folder.is_dir() and {path.name for path in folder.iterdir()} - {INDEX, CARD, ITEMS}):
        raise InputError(folder, "must be new, or the folder of a gallery that may be replaced", "something else")
