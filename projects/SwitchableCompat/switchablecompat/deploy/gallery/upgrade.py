"""A deployment rehearsed on a data set: cameras query a gallery in Milvus while a larger sub-model re-encodes it.

Unlike in :mod:`switchablecompat.family.mixed_gallery`, which mixes features in memory, every part is the one that a
deployment would use: exported files, their readers, the engine and its loads, and one threshold for all stages.
"""

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch

from ...errors import InputError
from ...evaluation.ranking import ProtocolMatches
from ...evaluation.similarities import count_similarities
from ...family.mixed_gallery import random_order
from ...family.verification import verify
from ..encoder import Encoder, features_of
from ..image_list import LabelledImage, labels_of
from .milvus_gallery import DEEPEST, MilvusGallery
from .milvus_load import Target, load_images
from .scoring import score_lists
from .search import BLOCK_CELLS

STAGES = 10
PROBE = 16  # queries per search while an upgrade runs


@dataclass(frozen=True)
class Stage:
    """The gallery at one moment of an upgrade.

    Attributes:
        share: share of the items that the new sub-model has encoded, in per cent.
        mAP: mAP of the cameras' queries, in per cent.
        tar, far: shares of genuine pairs, in per cent, and of impostor pairs, in [0, 1], that the threshold accepts.
        answered: number of queries that were answered while the items of this stage were written.
    """

    share: float
    mAP: float  # noqa: N815  (the field's own name)
    tar: float
    far: float
    answered: int


def check_size(gallery: Sequence[LabelledImage]) -> None:
    """Reject a gallery that a search cannot rank whole, before any work starts."""
    if len(gallery) > DEEPEST:
        rule = f"must have at most the {DEEPEST} items that Milvus ranks for a query"
        raise InputError("gallery of a rehearsal", rule, len(gallery))


def family_threshold(
    encoders: Sequence[Encoder], queries: Sequence[LabelledImage], gallery: Sequence[LabelledImage], far: float
) -> float:
    """The threshold that keeps a false accept rate in every cell of these sub-models: the highest of the cells' own."""
    features = [[torch.from_numpy(features_of(encoder, side)) for side in (queries, gallery)] for encoder in encoders]
    matches = ProtocolMatches(*labels_of(queries, gallery))
    counts = {
        (q, g): count_similarities(features[q][0], features[g][1], matches)
        for q in range(len(encoders))
        for g in range(len(encoders))
    }
    shared = verify(counts, far).strictest
    if shared.threshold is None:
        raise InputError("--far", "must be one that the pairs of the data set can show", shared.reason)
    return shared.threshold


def measure_stage(
    gallery: MilvusGallery, queries: Sequence[LabelledImage], features: np.ndarray, threshold: float
) -> tuple[float, float, float]:
    """mAP in per cent, TAR in per cent and FAR in [0, 1], from one search of the whole gallery for each query."""
    labels = gallery.labels()
    if labels is None:
        raise InputError("gallery of a rehearsal", "must have identities and cameras for all items")
    pids, camids = labels_of(queries)
    step = max(1, BLOCK_CELLS // len(gallery))
    lists, accepted, pairs = [], np.zeros(2, dtype=np.int64), np.zeros(2, dtype=np.int64)
    for start in range(0, len(queries), step):
        block = slice(start, start + step)
        scores, rows = gallery.search(features[block], len(gallery))
        same = labels[0][rows] == pids[block, None]
        junk = same & (labels[1][rows] == camids[block, None])
        for number, kind in enumerate((same & ~junk, ~same)):
            pairs[number] += kind.sum()
            accepted[number] += (kind & (scores >= threshold)).sum()
        lists.append(rows)
    result = score_lists(lists, pids, labels[0], camids, labels[1])
    tar, far = accepted / pairs
    return result.mAP, 100 * float(tar), float(far)


def rehearse(
    target: Target,
    old: Encoder,
    new: Encoder,
    camera: Encoder,
    queries: Sequence[LabelledImage],
    gallery: Sequence[LabelledImage],
    threshold: float,
    *,
    seed: int = 0,
) -> Iterator[Stage]:
    """Load a gallery with the old sub-model, and re-encode it by tenths in a random order while cameras query it.

    Args:
        target: a collection that does not exist yet.
        old, new, camera: the sub-models that first encode the gallery, re-encode it, and encode the queries.
        queries, gallery: images with identities and cameras.
        threshold: a pair is accepted at or above this cosine.

    Yields:
        The stages, from 0 to 100 per cent. A query that is not answered in full raises InputError.
    """
    check_size(gallery)
    features = features_of(camera, queries)
    load_images(target, old, gallery, "rehearsal")
    order = random_order(len(gallery), seed)
    for number in range(STAGES + 1):
        first, last = (round(max(0, stage) * len(order) / STAGES) for stage in (number - 1, number))
        with _searching(MilvusGallery(target.client, target.name), features) as answered:
            load_images(target, new, [gallery[i] for i in order[first:last]], "rehearsal")
        state = MilvusGallery(target.client, target.name)
        if len(state) != len(gallery):
            raise InputError("gallery of a rehearsal", f"must keep its {len(gallery)} items", len(state))
        yield Stage(100 * number / STAGES, *measure_stage(state, queries, features, threshold), answered.result())


@contextmanager
def _searching(gallery: MilvusGallery, features: np.ndarray) -> Iterator[Future[int]]:
    """Search in another thread until the block ends; yield a future of the number of answers."""
    stop, top = threading.Event(), min(10, len(gallery))

    def search() -> int:
        answered = 0
        while not stop.is_set():
            block = np.take(features, range(answered, answered + PROBE), axis=0, mode="wrap")
            if (gallery.search(block, top)[1] < 0).any():
                raise RuntimeError(f"a search found fewer than {top} items")
            answered += len(block)
        return answered

    with ThreadPoolExecutor(1) as pool:
        answered = pool.submit(search)
        try:
            yield answered
        finally:
            stop.set()
    if error := answered.exception():
        raise InputError("search during an upgrade", "must be answered", error) from error
