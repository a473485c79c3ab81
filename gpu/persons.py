"""Draw generated persons at 256 x 128 pixels into one array, for trainings that hold it on the device."""

from __future__ import annotations

import argparse
import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from switchablecompat.data.pedestrian import draw_crop, sample_camera, sample_identity
from switchablecompat.files import atomic_write

CAMERAS = 6
PARTS = ("start", "train", "query", "gallery")


@dataclass(frozen=True)
class Spec:
    """Numbers of persons and of pictures of each.

    Attributes:
        start_ids: Number of persons that only the pretrained start uses.
        train_ids: Number of persons of the fine-tunings.
        test_ids: Number of persons of queries and gallery.
        per_id: Training pictures per person.
        queries: Queries per person, each from another camera.
        gallery: Gallery pictures per person.
        size: Height and width in pixels.
    """

    start_ids: int = 500
    train_ids: int = 300
    test_ids: int = 200
    per_id: int = 12
    queries: int = 3
    gallery: int = 9
    size: tuple[int, int] = (256, 128)

    def jobs(self) -> list[tuple[str, int, int, int]]:
        """(part, person, camera, number) of every picture. A person's pictures use all cameras in turn."""
        first, found = 0, []
        for part, ids, pictures in (
            ("start", self.start_ids, range(self.per_id)),
            ("train", self.train_ids, range(self.per_id)),
            ("query", self.test_ids, range(self.queries)),
            ("gallery", self.test_ids, range(self.queries, self.queries + self.gallery)),
        ):
            found += [(part, first + p, (p + j) % CAMERAS, j) for p in range(ids) for j in pictures]
            first += 0 if part == "query" else ids
        return found


TINY = Spec(start_ids=8, train_ids=8, test_ids=6, per_id=4, queries=2, gallery=4, size=(64, 32))


def draw(job: tuple[str, int, int, int], size: tuple[int, int]) -> np.ndarray:
    """Draw one picture, [3, H, W] uint8, determined by person, camera and number alone."""
    _, person, camera, number = job
    identity = sample_identity(np.random.default_rng((7, 1, person)))
    place = sample_camera(np.random.default_rng((7, 2, camera)), camera)
    crop = draw_crop(identity, place, np.random.default_rng((7, 3, person, camera + 1, number + 1)), *size)
    return np.ascontiguousarray(crop.transpose(2, 0, 1))


def draw_all(spec: Spec, processes: int) -> dict[str, np.ndarray]:
    """Draw ``images`` [N, 3, H, W] uint8, with each one's ``part`` (index into PARTS), ``pids`` and ``camids``."""
    jobs = spec.jobs()
    if processes == 1:
        images = [draw(job, spec.size) for job in jobs]
    else:
        with ProcessPoolExecutor(processes) as pool:
            images = list(pool.map(draw, jobs, [spec.size] * len(jobs), chunksize=64))
    parts, pids, camids = (np.array(column) for column in list(zip(*jobs, strict=True))[:3])
    return {
        "images": np.stack(images),
        "part": np.array([PARTS.index(part) for part in parts]),
        "pids": pids,
        "camids": camids,
    }


def main() -> None:
    """Draw the persons, and write the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--dry-run", action="store_true")
    arguments = parser.parse_args()
    processes = 1 if arguments.dry_run else max(1, (os.cpu_count() or 2) - 2)
    content = draw_all(TINY if arguments.dry_run else Spec(), processes)
    with atomic_write(arguments.output) as temporary:
        np.savez(temporary, **content, allow_pickle=False)
    print(f"{len(content['images'])} pictures")


if __name__ == "__main__":
    main()
