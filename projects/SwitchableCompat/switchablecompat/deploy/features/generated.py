"""Generated features as shards, to try an index at a size for which there are no images yet."""

from pathlib import Path

import numpy as np
from tqdm import tqdm

from ..card import ModelCard
from ..image_list import LabelledImage
from .feature_file import FeatureFile, feature_schema, parquet_writer, record_batch

IMAGES_PER_IDENTITY = 20
NOISE = 0.4  # spread of the images of an identity, relative to the spread of the identities
BLOCK = 8000  # images per block; a block holds whole identities
SHARD = 25 * BLOCK
SEED = 0
FAMILY = "generated"  # how the family of all such files begins


def write_generated(folder: Path, num_vectors: int, dimension: int, *, queries: bool = False) -> None:
    """Write feature files of a gallery, or of queries.

    Identities are Gaussian points whose coordinates have decaying variances, as principal components of features do.
    Their images lie around them, and all vectors are then normalised to length one. Queries are another image of each
    of the first identities. The files say that they are generated, so they do not compare with features of a model.
    Those of an earlier call are removed; other files stay.
    """
    family = f"{FAMILY} {dimension}-d features, seed {SEED}"
    card = ModelCard("program", "none", family, 1.0, (1.0,), dimension, l2_normalised=True, preprocessing={})
    schema = feature_schema(card)
    step = BLOCK // IMAGES_PER_IDENTITY if queries else BLOCK
    for path in folder.glob("part-*.parquet"):
        if FeatureFile(path).card.family.startswith(FAMILY):
            path.unlink()
    with tqdm(total=num_vectors, desc="Generating", unit="vector", unit_scale=True) as progress:
        for first in range(0, num_vectors, SHARD):
            with parquet_writer(folder / f"part-{first // SHARD:05d}.parquet", schema) as write:
                for start in range(first, min(first + SHARD, num_vectors), step):
                    values = generate(start // step, dimension, queries=queries)[: num_vectors - start]
                    ids = range(start, start + len(values))
                    items = [LabelledImage(f"{'query' if queries else 'gallery'}/{number}") for number in ids]
                    write(record_batch(schema, card, ids, items, values))
                    progress.update(len(values))


def generate(block: int, dimension: int, *, queries: bool) -> np.ndarray:
    """The features of one block of identities, ``[n, D]`` float32 of length one."""
    spread = 1 / np.sqrt(1 + np.arange(dimension) / 8)
    identities = np.random.default_rng([SEED, block]).standard_normal((BLOCK // IMAGES_PER_IDENTITY, dimension))
    images = np.repeat(identities, 1 if queries else IMAGES_PER_IDENTITY, axis=0)
    noise = np.random.default_rng([SEED, block, 1 + queries]).standard_normal(images.shape)
    values = (images + NOISE * noise) * spread
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)
