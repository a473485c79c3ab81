"""Compare the features of an exported file with those of the switchable network."""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from fastreid.config import CfgNode
from torch import Tensor

from ...data.opening import open_dataset
from ...errors import InputError
from ...files import data_root
from ...settings import preprocessing_of
from ..image_list import list_images
from ..images import read_images

BATCHES = (1, 8)
IMAGES = max(BATCHES)
SCALES = (0.75, 1.5)  # other image sizes, relative to the card's
STEP = 16  # other image sizes are multiples of it


def largest_differences(
    candidate: Callable[[Tensor], Tensor], reference: Callable[[Tensor], Tensor], images: Tensor
) -> dict[str, float]:
    """Largest absolute difference of any component of the L2-normalised features [N, D], by ``batch_SIZE``."""
    found = {}
    for size in BATCHES:
        differences = [(candidate(batch) - reference(batch)).abs().max() for batch in images.split(size)]
        found[f"batch_{size}"] = torch.stack(differences).max().item()  # NaN if any is NaN
    return found


def differences_of_sizes(
    candidate: Callable[[Tensor], Tensor], reference: Callable[[Tensor], Tensor], images: Tensor
) -> dict[str, float]:
    """The same at a smaller and a larger image size (``size_192x96``, ...). The reference need not be normalised."""
    found = {}
    for height, width in other_sizes(images.shape[2:]):
        resized = F.interpolate(images, [height, width], mode="bilinear", align_corners=False)
        difference = candidate(resized) - F.normalize(reference(resized))
        found[f"size_{height}x{width}"] = difference.abs().max().item()
    return found


def other_sizes(size: Sequence[int]) -> list[tuple[int, int]]:
    """A smaller and a larger image size, height and width, to compare at beside ``size``."""
    scaled = ([max(STEP, round(scale * side / STEP) * STEP) for side in size] for scale in SCALES)
    return [(height, width) for height, width in scaled]


def parity_images(cfg: CfgNode, folder: str = "") -> tuple[Tensor, str]:
    """Real images for comparing features, evenly spaced over a folder or over the config's first test set.

    Returns [8, 3, H, W], and where they come from. Fewer than 8 images, or unreadable ones, raise InputError.
    """
    paths: Sequence[str | Path]
    if folder:
        paths, source = list_images(folder), "--images"
    else:
        source = cfg.DATASETS.TESTS[0]
        try:
            _, splits = open_dataset(source, data_root(), cfg.DATASETS.MANIFEST)
        except InputError as error:
            rule = "must name a folder of images where the config's test set cannot be read"
            raise InputError("--images", rule, error) from None
        paths = [item[0] for item in (*splits["query"], *splits["gallery"])]
    if len(paths) < IMAGES:
        raise InputError(folder or source, f"must hold at least {IMAGES} images to compare features on", len(paths))
    return read_images([paths[i * len(paths) // IMAGES] for i in range(IMAGES)], preprocessing_of(cfg)), source
