"""Pictures that stay on the device, so that a training step waits for no loader. Augmentation runs there too."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .persons import PARTS

PADDING, ERASE, FLIP = 10, 0.5, 0.5  # as in FastReID's BoT recipe


@dataclass(frozen=True)
class Pictures:
    """The pictures of one part, on the device."""

    images: Tensor  # [N, 3, H, W] uint8
    pids: Tensor  # [N] int64, numbered from 0
    camids: Tensor  # [N] int64

    @property
    def classes(self) -> int:
        """Number of persons."""
        return int(self.pids.max()) + 1

    def batches(self, size: int) -> Iterator[dict[str, Tensor]]:
        """All pictures in order, in batches as a test loader gives them."""
        for first in range(0, len(self.images), size):
            part = slice(first, first + size)
            yield {"images": self.images[part].float(), "targets": self.pids[part], "camids": self.camids[part]}


def load_persons(path: Path, device: str, patience: float) -> dict[str, Pictures]:
    """Read the file of :mod:`.persons`, by part. Waits ``patience`` seconds for the file to appear.

    Raises:
        TimeoutError: The file did not appear.
    """
    deadline = time.monotonic() + patience
    while not path.is_file():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{path} has not come within {patience:.0f} s")
        time.sleep(0.2)
    with np.load(path) as content:
        images, part, pids, camids = (content[key] for key in ("images", "part", "pids", "camids"))
    found = {}
    for number, name in enumerate(PARTS):
        chosen = part == number
        _, own = np.unique(pids[chosen], return_inverse=True)  # query and gallery are of the same persons
        tensors = (torch.from_numpy(np.ascontiguousarray(x)) for x in (images[chosen], own, camids[chosen]))
        found[name] = Pictures(*(tensor.to(device) for tensor in tensors))
    return found


class ResidentLoader:
    """Endless augmented batches of four pictures of each person. The seed determines all random numbers.

    Args:
        pictures: The pictures, on their device.
        batch: Pictures of a batch.
        steps: Number of batches whose indices are drawn in advance.
        seed: Seed of all draws.
    """

    def __init__(self, pictures: Pictures, batch: int, steps: int, seed: int) -> None:
        self.pictures, device = pictures, pictures.images.device
        self.generator = torch.Generator(device).manual_seed(seed)
        rng = np.random.default_rng(seed)
        pids = pictures.pids.cpu().numpy()
        of_person = [np.flatnonzero(pids == person) for person in range(pictures.classes)]
        rows = []
        for _ in range(steps):
            people = rng.choice(len(of_person), batch // 4, replace=len(of_person) < batch // 4)
            rows.append(np.concatenate([rng.choice(of_person[p], 4, len(of_person[p]) < 4) for p in people]))
        self.indices = torch.from_numpy(np.stack(rows)).to(device)

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        for step in range(2**62):
            index = self.indices[step % len(self.indices)]
            images = augment(self.pictures.images[index].float(), self.generator)
            yield {"images": images, "targets": self.pictures.pids[index], "camids": self.pictures.camids[index]}


def augment(images: Tensor, generator: torch.Generator) -> Tensor:
    """Flip, pad, crop pictures [N, 3, H, W] (0 to 255), and erase a rectangle of each to the mean, on their device."""
    n, _, height, width = images.shape
    draws = torch.rand(8, n, device=images.device, generator=generator)
    padded = torch.nn.functional.pad(images, (PADDING,) * 4)
    y, x = (torch.arange(size, device=images.device) for size in (height, width))
    rows = (draws[0] * (2 * PADDING + 1)).long()[:, None] + y
    columns = torch.where((draws[2] < FLIP)[:, None], width - 1 - x, x) + (draws[1] * (2 * PADDING + 1)).long()[:, None]
    chosen = torch.arange(n, device=images.device)[:, None, None]
    cropped = padded.permute(0, 2, 3, 1)[chosen, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
    area, aspect = height * width * (0.02 + 0.38 * draws[3]), (0.3 * (3.33 / 0.3) ** draws[4]).sqrt()
    tall, wide = (area.sqrt() * aspect).clamp_max(height), (area.sqrt() / aspect).clamp_max(width)
    top, left = draws[5] * (height - tall), draws[6] * (width - wide)
    inside_y = (y >= top[:, None]) & (y < (top + tall)[:, None])
    inside_x = (x >= left[:, None]) & (x < (left + wide)[:, None])
    erased = inside_y[:, :, None] & inside_x[:, None, :] & (draws[7] < ERASE)[:, None, None]
    mean = torch.tensor([123.675, 116.28, 103.53]).to(images.device, non_blocking=True).view(1, 3, 1, 1)
    return torch.where(erased[:, None], mean, cropped)
