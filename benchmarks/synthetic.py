"""The generated data set: its difficulty without learning, the time to draw it, and samples."""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from switchablecompat.data.opening import open_dataset
from switchablecompat.evaluation.ranking import rank_queries
from switchablecompat.files import atomic_write
from switchablecompat.provenance import versions

IDENTITIES, STRIPES, BINS = 8, 6, 16


def measure(path_of_sheet: Path | None) -> dict[str, Any]:
    """The figures; a sheet of samples is written as JPEG."""
    with tempfile.TemporaryDirectory() as root:
        start = time.perf_counter()
        _, splits = open_dataset("SyntheticReID", root, "")
        seconds = time.perf_counter() - start
        if path_of_sheet:
            with atomic_write(path_of_sheet) as temporary:
                sheet(splits["train"], IDENTITIES).save(temporary, quality=85)
        return {
            "images": {name: len(splits[name]) for name in ("train", "query", "gallery")},
            "images_per_second": round(sum(map(len, splits.values())) / seconds),
            "raw_pixels": retrieve(pixels, splits["query"], splits["gallery"]),
            "stripe_histograms": retrieve(stripe_histograms, splits["query"], splits["gallery"]),
            "versions": versions(),
        }


def pixels(images: np.ndarray) -> torch.Tensor:
    """Raw pixels, centred per image: [N, H, W, 3] uint8 to [N, H * W * 3]."""
    flat = torch.from_numpy(images).flatten(1).float()
    return flat - flat.mean(dim=1, keepdim=True)


def stripe_histograms(images: np.ndarray) -> torch.Tensor:
    """HSV histograms of six horizontal stripes, Hellinger-mapped: [N, H, W, 3] uint8 to [N, 6 * 3 * BINS]."""
    rows = []
    for image in images:
        hsv = np.asarray(Image.fromarray(image).convert("HSV"))
        stripes = np.array_split(hsv, STRIPES)
        rows.append(
            [np.bincount(s[..., c].ravel() // (256 // BINS), minlength=BINS) for s in stripes for c in range(3)]
        )
    return torch.from_numpy(np.sqrt(np.array(rows, dtype=np.float32))).flatten(1)


def retrieve(features: Callable[[np.ndarray], torch.Tensor], query: list, gallery: list) -> dict[str, float]:
    """mAP and Rank-1 (per cent) of a hand-made feature under the Market-1501 protocol."""
    images = [np.stack([np.asarray(Image.open(path)) for path, _, _ in items]) for items in (query, gallery)]
    parts = [F.normalize(features(one)) for one in images]
    labels = [np.array([item[k] for item in items]) for k in (1, 2) for items in (query, gallery)]
    result = rank_queries(*parts, *labels)
    return {"mAP": result.mAP, "Rank-1": result.rank_k(1)}


def sheet(train: list, identities: int) -> Image.Image:
    """The first identities, one per row with all pictures side by side, enlarged three times."""
    pids = sorted({pid for _, pid, _ in train}, key=lambda pid: int(pid.rpartition("_")[2]))[:identities]
    rows = []
    for wanted in pids:
        own = sorted((camera, path) for path, pid, camera in train if pid == wanted)
        rows.append(np.concatenate([np.asarray(Image.open(path)) for _, path in own], axis=1))
    picture = Image.fromarray(np.concatenate(rows))
    return picture.resize((picture.width * 3, picture.height * 3), Image.Resampling.NEAREST)
