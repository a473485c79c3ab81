"""Measure the 4 x 4 grid at Market-1501's size with 2048-d features on the device: time, and agreement with the CPU."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch
from torch import Tensor

from switchablecompat.files import write_json

from .measure import benchmark_record, compare, interleave
from .options import Options, read_options
from .ranked import all_cells, first_of

MARKET = (3368, 15_913 + 2_798, 751, 2048)  # queries, gallery with distractors, identities, dimensions
TINY = (40, 200, 10, 16)
WIDTHS = (0.25, 0.5, 0.75, 1.0)


def features_of(size: tuple[int, int, int, int], device: str) -> tuple[list[Tensor], list[Tensor], list[np.ndarray]]:
    """Features of every sub-model (noisy identity centres), and identities, then cameras, of queries and gallery."""
    queries, gallery, identities, dimension = size
    rng, generator = np.random.default_rng(0), torch.Generator(device).manual_seed(0)
    pids, camids = rng.integers(0, identities, queries + gallery), rng.integers(0, 6, queries + gallery)
    options: dict[str, Any] = {"device": device, "generator": generator}
    centres = torch.nn.functional.normalize(torch.randn(identities, dimension, **options))
    noise = (dimension**0.5 / 4.0 - 1) ** 0.5 if dimension > 16 else 1.0
    found = []
    for _ in WIDTHS:
        random = torch.randn(queries + gallery, dimension, **options) / dimension**0.5
        found.append(torch.nn.functional.normalize(centres[torch.from_numpy(pids).to(device)] + noise * random))
    labels = [pids[:queries], pids[queries:], camids[:queries], camids[queries:]]
    return [f[:queries] for f in found], [f[queries:] for f in found], labels


def measure(options: Options) -> dict[str, Any]:
    """Measure, and return the content of the part's file."""
    size = TINY if options.dry_run else MARKET
    query, gallery, labels = features_of(size, options.device)

    def ours() -> object:
        return all_cells(query, gallery, labels, WIDTHS)

    def products() -> None:
        for q in query:
            for g in gallery:
                q @ g.T

    started = time.monotonic()
    first = first_of(all_cells(query, gallery, labels, WIDTHS))
    once = time.monotonic() - started
    repeats = max(1, min(5, int(0.4 * options.left() / max(once, 1e-3)) - 1))
    seconds = interleave({"ours": ours, "products": products}, repeats)
    name = f"4 x 4 grid, {size[0]:,} queries, {size[1]:,} gallery items, {size[3]}-d"
    rows = [compare(name, seconds, "ours", "products", None, "its 16 matrix products on the device")]
    more: dict[str, Any] = {"mAP": first.mAP, "rank_1": first.rank_k(1)}
    content = benchmark_record("gpu grid", {"size": size, "repeats": repeats}, rows, **more)
    write_json(options.output, content)
    started = time.monotonic()
    on_cpu = first_of(all_cells([query[0].cpu()], [gallery[0].cpu()], labels, WIDTHS[-1:]))
    more["seconds_of_a_cell_on_the_cpu"] = time.monotonic() - started
    more["largest_difference_to_the_cpu_in_points"] = max(
        abs(first.mAP - on_cpu.mAP), abs(first.rank_k(1) - on_cpu.rank_k(1)), abs(first.mINP - on_cpu.mINP)
    )
    return {**content, **more}


def main() -> None:
    """Measure, and write the file."""
    options = read_options(__doc__)
    write_json(options.output, measure(options))


if __name__ == "__main__":
    main()
