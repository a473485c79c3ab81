"""What a change of arithmetic does to search: features and mAP on pictures that the training has not seen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from ..choices import CALIBRATION
from ..data.opening import data_root, open_dataset
from ..errors import InputError
from ..evaluation.ranking import ProtocolMatches, rank_matches
from ..widths import width_name
from .encode import encode
from .encoder import Encoder, run_encoder
from .images import preprocessing_of, read_images
from .items import Item
from .run import TrainedRun


class HeldOut:
    """The test set of a run, with the float32 features of its sub-models, each encoded when it is first asked for.

    Args:
        run: the run; its config's first test set is taken.
        batch_size: images at a time.

    Raises:
        InputError: the test set is not there, or has no query with a match.
    """

    def __init__(self, run: TrainedRun, batch_size: int = 64) -> None:
        self.source = run.cfg.DATASETS.TESTS[0]
        _, splits = open_dataset(self.source, data_root(), run.cfg.DATASETS.MANIFEST)
        query, gallery = splits["query"], splits["gallery"]
        self._run, self._batch = run, batch_size
        self._items = [Item(item[0]) for item in (*query, *gallery)]
        self._num_query = len(query)
        labels = [np.array([item[column] for item in side]) for column in (1, 2) for side in (query, gallery)]
        self._matches = ProtocolMatches(*labels)
        self._features: dict[float, Tensor] = {}

    def __len__(self) -> int:
        return len(self._items)

    def features(self, width: float) -> Tensor:
        """Float32 features of one sub-model, queries first, ``[N, D]``, L2-normalised."""
        if width not in self._features:
            self._features[width] = self._encode(run_encoder(self._run, width), width_name(width))
        return self._features[width]

    def compare(self, encoder: Encoder) -> dict[str, Any]:
        """What another arithmetic of a sub-model gives beside float32.

        Args:
            encoder: of a sub-model of this run.

        Returns:
            ``cosine``: ``mean`` and ``lowest`` over all images, between its features and the float32 ones of the same
            width. ``mAP``: of its queries, in per cent: on the float32 gallery of each width, and on its own; beside
            each the value of float32 queries, and the ``drop``.
        """
        card = encoder.card
        name = f"{card.name} {card.precision}"
        ours, theirs = self._encode(encoder, name), self.features(card.width)
        cosine = (ours * theirs).sum(dim=1)
        row = []
        for width in self._run.widths:
            gallery = self.features(width)[self._num_query :]
            row.append(self._cell(width_name(width), (ours, gallery), (theirs, gallery)))
        row.append(self._cell(name, (ours, ours[self._num_query :]), (theirs, theirs[self._num_query :])))
        return {
            "images": len(self),
            "source": self.source,
            "cosine": {"mean": cosine.mean().item(), "lowest": cosine.min().item()},
            "query": name,
            "mAP": row,
        }

    def _cell(self, name: str, ours: tuple[Tensor, Tensor], theirs: tuple[Tensor, Tensor]) -> dict[str, Any]:
        """mAP of two pairs of (all, gallery) features."""
        changed, former = (
            rank_matches(values[: self._num_query].contiguous(), gallery.contiguous(), self._matches).mAP
            for values, gallery in (ours, theirs)
        )
        return {"gallery": name, "mAP": changed, "float32": former, "drop": former - changed}

    def _encode(self, encoder: Encoder, name: str) -> Tensor:
        with tqdm(total=len(self), desc=f"Held-out images by {name}", unit="image") as progress:
            batches = []
            for batch in encode(encoder, self._items, batch_size=self._batch):
                batches.append(torch.from_numpy(batch.features))
                progress.update(len(batch.items))
        return torch.cat(batches)


def largest_drop(row: Sequence[dict[str, Any]]) -> float:
    """The most mAP that a row of :meth:`HeldOut.compare` loses; NaN if one of its values is."""
    return float(np.max([cell["drop"] for cell in row]))


def calibration_pictures(run: TrainedRun, number: int = CALIBRATION) -> tuple[Tensor, str]:
    """Pictures of the training sets, evenly spaced, through the test pipeline.

    Returns:
        ``[n, 3, H, W]``, and where they come from.

    Raises:
        InputError: a training set that is not there, or without images.
    """
    names = list(dict.fromkeys(run.cfg.DATASETS.NAMES))
    paths = [
        item[0] for name in names for item in open_dataset(name, data_root(), run.cfg.DATASETS.MANIFEST)[1]["train"]
    ]
    if not paths:
        raise InputError("DATASETS.NAMES", "must have training images to calibrate on", "none")
    number = min(number, len(paths))
    chosen = [paths[i * len(paths) // number] for i in range(number)]
    return read_images(chosen, preprocessing_of(run.cfg)), ", ".join(names)
