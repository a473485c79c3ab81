"""Measure the 4 x 4 grid at Market-1501's size with 2048-d features on the device: time, and agreement with the CPU."""

import time
from dataclasses import replace
from typing import Any

from benchmarks.grid import largest_difference, ours, products, random_task
from benchmarks.report import record
from benchmarks.timing import compare, interleave
from switchablecompat.files import write_json

from .options import Options, read_options

MARKET = (3368, 15_913 + 2_798, 751, 2048)  # queries, gallery with distractors, identities, dimensions
TINY = (40, 200, 10, 32)


def measure(options: Options) -> dict[str, Any]:
    """Measure, and return the content of the part's file."""
    size = TINY if options.dry_run else MARKET
    task = random_task(*size, 4, device=options.device)
    started = time.monotonic()
    first = ours(task)()[0][0]
    once = time.monotonic() - started
    repeats = max(1, min(5, int(0.4 * options.left() / max(once, 1e-3)) - 1))
    seconds = interleave({"ours": ours(task), "products": products(task)}, repeats)
    name = f"4 x 4 grid, {size[0]:,} queries, {size[1]:,} gallery items, {size[3]}-d"
    rows = [compare(name, seconds, "ours", "products", None, "its 16 matrix products on the device")]
    content = record("gpu grid", "make gpu", {"size": size, "repeats": repeats}, rows)
    content |= {"mAP": first.mAP, "rank_1": first.rank_k(1)}
    write_json(options.output, content)
    on_cpu = replace(task, query=[task.query[0].cpu()], gallery=[task.gallery[0].cpu()])
    started = time.monotonic()
    cells = ours(on_cpu)()
    content["seconds_of_a_cell_on_the_cpu"] = time.monotonic() - started
    on_device = (first.mAP, first.rank_k(1), first.mINP)
    content["largest_difference_to_the_cpu_in_points"] = largest_difference(cells, (0, 0), on_device)
    return content


def main() -> None:
    """Measure, and write the file."""
    options = read_options(__doc__)
    write_json(options.output, measure(options))


if __name__ == "__main__":
    main()
