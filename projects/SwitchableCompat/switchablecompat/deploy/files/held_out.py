"""Measure how another precision changes search: features and mAP on images that were not used for training."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...choices import CALIBRATION
from ...data.opening import open_dataset
from ...errors import InputError
from ...evaluation.ranking import ProtocolMatches, rank_matches
from ...files import data_root
from ...modeling.opened import OpenedModel
from ...settings import preprocessing_of
from ...widths import width_name
from ..card import ModelCard
from ..encoder import Encoder, features_of, raw_features, submodel_encoder
from ..image_list import LabelledImage, labels_of
from ..images import read_images

Size = tuple[int, int]  # height and width of images


class HeldOut:
    """The first test set of a run's config, with the float32 features of its sub-models.

    Each sub-model encodes the test set when its features are first used.
    """

    def __init__(self, model: OpenedModel) -> None:
        self.source = model.cfg.DATASETS.TESTS[0]
        _, splits = open_dataset(self.source, data_root(), model.cfg.DATASETS.MANIFEST)
        query, gallery = (
            [LabelledImage(path, str(pid), str(camid)) for path, pid, camid in splits[side]]
            for side in ("query", "gallery")
        )
        self._model = model
        self._items = [*query, *gallery]
        self._num_query = len(query)
        self._matches = ProtocolMatches(*labels_of(query, gallery))
        self._features: dict[tuple[float, Size | None], Tensor] = {}

    def __len__(self) -> int:
        return len(self._items)

    def features(self, width: float, size: Size | None = None) -> Tensor:
        """Float32 features of one sub-model, queries first, ``[N, D]``, L2-normalised; at another ``size`` if given."""
        if (width, size) not in self._features:
            encoder = submodel_encoder(self._model, width)
            if size is not None:
                encoder = Encoder(at_size(encoder.card, size), partial(raw_features, self._model, width))
            self._features[width, size] = self._encode(encoder, width_name(width))
        return self._features[width, size]

    def compare(self, encoder: Encoder, size: Size | None = None) -> dict[str, Any]:
        """Compare a sub-model of this run in another precision with float32.

        ``size`` is height and width of the images, for a sub-model that takes any; by default the card's.

        Returns ``cosine``: ``mean`` and ``lowest`` over all images, between its features and the float32 features of
        the same width; and ``mAP`` of its queries in per cent, on the float32 gallery of each width and on its own
        gallery, each with the value of float32 queries, and the ``drop``.
        """
        card = encoder.card
        name = f"{card.name} {card.precision}"
        if size is not None:
            encoder = Encoder(at_size(card, size), encoder)
        ours, theirs = self._encode(encoder, name), self.features(card.width, size)
        cosine = (ours * theirs).sum(dim=1)
        galleries = {width_name(width): self.features(width, size) for width in self._model.widths}
        row = [self._cell(other, (ours, gallery), (theirs, gallery)) for other, gallery in galleries.items()]
        row.append(self._cell(name, (ours, ours), (theirs, theirs)))
        return {
            "images": len(self),
            "source": self.source,
            "cosine": {"mean": cosine.mean().item(), "lowest": cosine.min().item()},
            "query": name,
            "mAP": row,
        }

    def _cell(self, name: str, ours: tuple[Tensor, Tensor], theirs: tuple[Tensor, Tensor]) -> dict[str, Any]:
        """mAP of the queries in ``ours`` on the gallery in ``theirs``; each is a pair (query, gallery) of features."""
        number = self._num_query
        changed, former = (
            rank_matches(query[:number].contiguous(), gallery[number:].contiguous(), self._matches).mAP
            for query, gallery in (ours, theirs)
        )
        return {"gallery": name, "mAP": changed, "float32": former, "drop": former - changed}

    def _encode(self, encoder: Encoder, name: str) -> Tensor:
        return torch.from_numpy(features_of(encoder, self._items, doing=f"Held-out images by {name}"))


def at_size(card: ModelCard, size: Size) -> ModelCard:
    """The card of the same sub-model for images of another height and width, cropped in the same proportion."""
    size_of = {"size": list(size)}
    if crop := card.preprocessing.get("center_crop"):
        whole = zip(card.preprocessing["size"], size, crop, strict=True)
        size_of = {"size": [round(side * new / old) for side, new, old in whole], "center_crop": list(size)}
    return replace(card, preprocessing={**card.preprocessing, **size_of})


def largest_drop(row: Sequence[dict[str, Any]]) -> float:
    """The largest drop of mAP in a row of :meth:`HeldOut.compare`; NaN if any value is NaN."""
    return float(np.max([cell["drop"] for cell in row]))


def calibration_pictures(model: OpenedModel, number: int = CALIBRATION) -> tuple[Tensor, str]:
    """Evenly spaced training images, read by the test pipeline: ``[n, 3, H, W]``, and where they come from."""
    names = list(dict.fromkeys(model.cfg.DATASETS.NAMES))
    paths = [
        item[0] for name in names for item in open_dataset(name, data_root(), model.cfg.DATASETS.MANIFEST)[1]["train"]
    ]
    if not paths:
        raise InputError("DATASETS.NAMES", "must have training images to calibrate on", "none")
    number = min(number, len(paths))
    chosen = [paths[i * len(paths) // number] for i in range(number)]
    return read_images(chosen, preprocessing_of(model.cfg)), ", ".join(names)
