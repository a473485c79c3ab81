#!/usr/bin/env python
"""Describe the generated data set: its difficulty without learning, the time to draw it, and samples.

Writes the figures as JSON and a sheet of samples as JPEG.
"""

from __future__ import annotations

import startup  # noqa: F401  (before torch is loaded)

# isort: split
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from switchablecompat.cli.parsers.shared import Parser
from switchablecompat.data.opening import open_dataset
from switchablecompat.errors import exit_on_input_error
from switchablecompat.evaluation.ranking import rank_queries
from switchablecompat.files import atomic_write, refuse_unwritable_file, write_json
from switchablecompat.provenance import versions

COMMAND = "python tools/describe_synthetic.py --json results/synthetic/difficulty.json --sheet docs/synthetic.jpg"
IDENTITIES, STRIPES, BINS = 8, 6, 16


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


def main() -> None:
    """The command line."""
    parser = Parser(description=__doc__, epilog=f"example: {COMMAND}")
    parser.add_argument("--json", type=Path, required=True, metavar="FILE", help="file for the figures")
    parser.add_argument("--sheet", type=Path, metavar="FILE", help="file for a sheet of samples (JPEG)")
    args = parser.parse_args()
    refuse_unwritable_file(args.json, "--json")
    if args.sheet:
        refuse_unwritable_file(args.sheet, "--sheet")
    with tempfile.TemporaryDirectory() as root:
        start = time.perf_counter()
        _, splits = open_dataset("SyntheticReID", root, "")
        seconds = time.perf_counter() - start
        train, query, gallery = (splits[name] for name in ("train", "query", "gallery"))
        figures = {
            "command": COMMAND,
            "images": {"train": len(train), "query": len(query), "gallery": len(gallery)},
            "images_per_second": round((len(train) + len(query) + len(gallery)) / seconds),
            "raw_pixels": retrieve(pixels, query, gallery),
            "stripe_histograms": retrieve(stripe_histograms, query, gallery),
            "versions": versions(),
        }
        if args.sheet:
            with atomic_write(args.sheet) as temporary:
                sheet(train, IDENTITIES).save(temporary, quality=85)
    write_json(args.json, figures)
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    exit_on_input_error(main)
