"""Feature extraction of all widths in one pass, compared with reading the data alone plus the forwards alone."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from switchablecompat.evaluation.features import extract_features, inference_mode
from switchablecompat.modeling import SwitchableBaseline


def one_pass(model: SwitchableBaseline, loader: DataLoader) -> Callable[[], object]:
    """Features of all sub-models, with each image decoded and normalised once."""
    return lambda: extract_features(model, loader)


def pass_for_each_width(model: SwitchableBaseline, loader: DataLoader) -> Callable[[], object]:
    """The same features with one pass per sub-model, as separate models need it."""
    return lambda: [extract_features(model, loader, indices=[index]) for index in range(len(model.switch))]


def data_alone(loader: DataLoader) -> Callable[[], int]:
    """Read, decode and collate every batch, without a network."""
    return lambda: sum(len(batch["targets"]) for batch in loader)


def forwards_alone(model: SwitchableBaseline, batches: list[dict[str, Tensor]]) -> Callable[[], None]:
    """The forwards of all sub-models on batches in memory."""

    def run() -> None:
        with inference_mode(model):
            for batch in batches:
                images = model.preprocess_image(batch)
                for index in range(len(model.switch)):
                    with model.switch.use(index):
                        model.heads(model.backbone(images))
        torch.cuda.synchronize() if images.is_cuda else None

    return run
