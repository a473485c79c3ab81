"""Draw generated persons at 256 x 128 pixels into one array, for trainings that hold it on the device."""

import argparse
import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from switchablecompat.data.synthetic import QUERY, TRAIN, Job, SyntheticSpec, draw
from switchablecompat.files import atomic_write

PARTS = ("start", "train", "query", "gallery")
FULL = SyntheticSpec("gpu", seed=7, train_ids=800, height=256, width=128)
TINY = replace(FULL, train_ids=16, test_ids=6, train_per_id=4, queries_per_id=2, gallery_per_id=4, height=64, width=32)
START = 5 / 8  # share of the training persons that only the pretrained start uses


def part_of(job: Job, spec: SyntheticSpec) -> str:
    """The part of a picture, one of PARTS."""
    folder, pid, *_ = job
    if folder == TRAIN:
        return "start" if pid <= START * spec.train_ids else "train"
    return "query" if folder == QUERY else "gallery"


def draw_all(spec: SyntheticSpec, processes: int) -> dict[str, np.ndarray]:
    """Draw ``images`` [N, 3, H, W] uint8, with each one's ``part`` (index into PARTS), ``pids`` and ``camids``."""
    jobs = list(spec.jobs())
    if processes == 1:
        images = [draw(spec, job) for job in jobs]
    else:
        with ProcessPoolExecutor(processes) as pool:
            images = list(pool.map(partial(draw, spec), jobs, chunksize=64))
    return {
        "images": np.stack(images).transpose(0, 3, 1, 2),
        "part": np.array([PARTS.index(part_of(job, spec)) for job in jobs]),
        "pids": np.array([pid for _, pid, _, _ in jobs]),
        "camids": np.array([camera for _, _, camera, _ in jobs]),
    }


def main() -> None:
    """Draw the persons, and write the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--dry-run", action="store_true")
    arguments = parser.parse_args()
    processes = 1 if arguments.dry_run else max(1, (os.cpu_count() or 2) - 2)
    content = draw_all(TINY if arguments.dry_run else FULL, processes)
    with atomic_write(arguments.output) as temporary:
        np.savez(temporary, **content, allow_pickle=False)
    print(f"{len(content['images'])} pictures")


if __name__ == "__main__":
    main()
