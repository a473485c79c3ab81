"""Measure how another precision changes search: features and mAP on images that were not used for training."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...choices import CALIBRATION
from ...data.opening import data_root, open_dataset
from ...errors import InputError
from ...evaluation.ranking import ProtocolMatches, rank_matches
from ...modeling.opened import OpenedModel
from ...settings import preprocessing_of
from ...widths import width_name
from ..encoder import Encoder, features_of, submodel_encoder
from ..image_list import LabelledImage
from ..images import read_images


class HeldOut:
    """The first test set of a run's config, with the float32 features of its sub-models.

    Each sub-model encodes the test set when its features are first used.
    """

    def __init__(self, model: OpenedModel) -> None:
        self.source = model.cfg.DATASETS.TESTS[0]
        _, splits = open_dataset(self.source, data_root(), model.cfg.DATASETS.MANIFEST)
        query, gallery = splits["query"], splits["gallery"]
        self._model = model
        self._items = [LabelledImage(item[0]) for item in (*query, *gallery)]
        self._num_query = len(query)
        labels = [np.array([item[column] for item in side]) for column in (1, 2) for side in (query, gallery)]
        self._matches = ProtocolMatches(*labels)
        self._features: dict[float, Tensor] = {}

    def __len__(self) -> int:
        return len(self._items)

    def features(self, width: float) -> Tensor:
        """Float32 features of one sub-model, queries first, ``[N, D]``, L2-normalised."""
        if width not in self._features:
            self._features[width] = self._encode(submodel_encoder(self._model, width), width_name(width))
        return self._features[width]

    def compare(self, encoder: Encoder) -> dict[str, Any]:
        """Compare a sub-model of this run in another precision with float32.

        Returns ``cosine``: ``mean`` and ``lowest`` over all images, between its features and the float32 features of
        the same width; and ``mAP`` of its queries in per cent, on the float32 gallery of each width and on its own
        gallery, each with the value of float32 queries, and the ``drop``.
        """
        card = encoder.card
        name = f"{card.name} {card.precision}"
        ours, theirs = self._encode(encoder, name), self.features(card.width)
        cosine = (ours * theirs).sum(dim=1)
        galleries = {width_name(width): self.features(width) for width in self._model.widths}
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
