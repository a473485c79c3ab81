"""Encode images by one sub-model, from any kind of file. Threads read the next batches while the sub-model computes."""

import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from ..errors import InputError
from ..evaluation.features import inference_mode
from ..evaluation.precision import check_precision, computing_in
from ..modeling.opened import OpenedModel
from .card import ModelCard
from .image_list import LabelledImage
from .images import input_size, read_images

logger = logging.getLogger("fastreid.switchablecompat.encoder")


class Encoder:
    """One sub-model that maps images to L2-normalised features.

    ``forward`` maps images [N, 3, H, W] to features [N, D], normalised if the card says so.
    """

    def __init__(self, card: ModelCard, forward: Callable[[Tensor], Tensor]) -> None:
        self.card = card
        self._forward = forward

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """Features [N, D] of length one, float32 on the CPU.

        ``images`` are [N, 3, H, W] float32, RGB, 0-255, of the card's size, or of any size if the card allows it. The
        tensor is not changed. A wrong shape or type, or features that are not finite, raise InputError.
        """
        size: tuple[object, ...] = (3, *input_size(self.card.preprocessing))
        fits = images.dim() == 4 and images.shape[1:] == size
        if self.card.dynamic_size:
            fits, size = images.dim() == 4 and images.shape[1] == 3, (3, "H", "W")
        if not fits or images.dtype != torch.float32:
            found = f"{images.dtype} {list(images.shape)}"
            raise InputError("images", f"must be float32 [N, {', '.join(map(str, size))}]", found)
        features = self._forward(images).float().cpu()
        if not features.isfinite().all():  # weights are not finite, or half precision overflows
            raise InputError(self.card.file, "must give finite features", f"NaN or infinity at {self.card.name}")
        return features if self.card.l2_normalised else F.normalize(features)


def submodel_encoder(model: OpenedModel, width: float) -> Encoder:
    """An encoder for one sub-model of an opened model, without an exported file, in the model's ``TEST.PRECISION``."""
    card = ModelCard.of_model(model, width, precision=model.cfg.TEST.PRECISION)
    check_precision(card.precision, model.cfg.MODEL.DEVICE)
    return Encoder(card, partial(raw_features, model, width))


def raw_features(model: OpenedModel, width: float, images: Tensor) -> Tensor:
    """Unnormalised features [N, D] of one sub-model, on the CPU, for images [N, 3, H, W] (RGB, 0-255) of any size."""
    computing = computing_in(model.cfg.TEST.PRECISION, model.cfg.MODEL.DEVICE)
    with model.switch.use(model.index_of(width)), inference_mode(model.network), computing:
        return model.network(images).float().cpu()


def is_readable(encoder: Encoder, item: LabelledImage) -> bool:
    """Whether an image can be read as the encoder needs it."""
    try:
        read_images([item.path], encoder.card.preprocessing)
    except InputError:
        return False
    return True


class Encoded(NamedTuple):
    """A batch of images: their positions in the list, the images, and their L2-normalised features ``[n, D]``."""

    positions: list[int]
    items: list[LabelledImage]
    features: np.ndarray


def encode(
    encoder: Encoder,
    items: Sequence[LabelledImage],
    *,
    batch_size: int = 64,
    workers: int = 2,
    skip_unreadable: bool = False,
) -> Iterator[Encoded]:
    """Encode images in order, ``batch_size`` at a time, while ``workers`` threads read one batch each.

    An unreadable image raises InputError, or with ``skip_unreadable`` is skipped with a warning.
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


def features_of(
    encoder: Encoder, items: Sequence[LabelledImage], doing: str = "Encoding", **reading: Any
) -> np.ndarray:
    """Encode images to features ``[N, D]``, and show progress; ``reading`` are options of :func:`encode`."""
    with tqdm(total=len(items), desc=doing, unit="image") as progress:
        blocks = []
        for batch in encode(encoder, items, **reading):
            blocks.append(batch.features)
            progress.update(len(batch.items))
    return np.concatenate(blocks)
