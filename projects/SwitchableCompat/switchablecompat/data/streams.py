"""Makes images and augmentation of a training step depend only on seed, epoch and position.

FastReID draws both from the global generators of its processes. Its runs therefore depend on interruptions, on the
number of loader workers and on all other random numbers. Here every epoch has its own seed, and so has the augmentation
of every image, by its position in the epoch. A run that is resumed at any step therefore sees the same images as an
uninterrupted one, with any number of workers. The order of ``TrainingSampler`` does not depend on the number of
processes, so with it n processes together see what one process sees.
"""

import itertools
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from fastreid.data import CommDataset, common
from fastreid.utils import comm
from torch.utils.data import Sampler, get_worker_info
from torchvision.transforms import Compose, Resize

Key = tuple[int, tuple[int, int, int]]  # index of an image in the data set, and seed of its augmentation


def mixed_seeds(entropy: Sequence[int], count: int = 1) -> list[int]:
    """Derive seeds below 2**32 from several numbers. Different numbers give different, random-looking seeds."""
    numbers = [len(entropy), *(number % 2**32 for number in entropy)]  # NumPy treats (1,) and (1, 0) as equal
    return np.random.SeedSequence(numbers).generate_state(count).tolist()


def seed_generators(entropy: Sequence[int]) -> None:
    """Seed Python's, NumPy's and torch's CPU generator."""
    # Different seeds, because NumPy and torch would draw equal numbers from equal seeds.
    for_python, for_numpy, for_torch = mixed_seeds(entropy, 3)
    random.seed(for_python)
    np.random.seed(for_numpy)
    torch.default_generator.manual_seed(for_torch)


@contextmanager
def seeded(*entropy: int) -> Iterator[None]:
    """Seed Python's, NumPy's and torch's CPU generator for a block, and restore their states afterwards."""
    states = random.getstate(), np.random.get_state(), torch.default_generator.get_state()
    try:
        seed_generators(entropy)
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.default_generator.set_state(states[2])


class EpochSampler(Sampler[Key]):
    """The endless stream of images of this process, one seeded epoch after the other.

    Args:
        sampler: One of FastReID's training samplers, which selects the images of an epoch.
        seed: Seed of the run, the same in all processes.
        length: Number of images of an epoch over all processes, a multiple of their common batch.

    Attributes:
        first_epoch: Epoch at which the next iterator starts.
        first_position: Number of images of that epoch, over all processes, to skip.
    """

    def __init__(self, sampler: Any, seed: int, length: int) -> None:
        self.sampler, self.seed, self.length = sampler, seed, length
        self.first_epoch = self.first_position = 0

    def __iter__(self) -> Iterator[Key]:
        first = self.first_position
        for epoch in itertools.count(self.first_epoch):
            indices = self.epoch(epoch)
            for position in range(first + comm.get_rank(), self.length, comm.get_world_size()):
                yield indices[position], (self.seed, epoch, position)
            first = 0

    def epoch(self, number: int) -> list[int]:
        """Indices of the images of an epoch over all processes, [length]."""
        (self.sampler._seed,) = mixed_seeds((self.seed, number))
        with seeded(self.seed, number):
            return [int(index) for index in itertools.islice(self.sampler._infinite_indices(), self.length)]


class SeededImages(CommDataset):
    """FastReID's data set for keys of :class:`EpochSampler`. The seed in the key determines the augmentation.

    Args:
        img_items: As FastReID's: path, identity, camera.
        transform: Its transforms in their order.
        keep: Keep the decoded images in memory, resized if this is the first transform. Each loader process keeps what
            it reads. Images are the same as without.
    """

    def __init__(self, img_items: list[Any], transform: Compose, *, keep: bool = False) -> None:
        super().__init__(img_items, transform)
        self.kept: dict[int, Any] | None = {} if keep else None
        resize = [first for first in transform.transforms[:1] if isinstance(first, Resize)]
        self.fixed, self.random = Compose(resize), Compose(transform.transforms[len(resize) :])

    def __getitem__(self, key: Key) -> dict[str, Any]:
        index, entropy = key
        if get_worker_info() is not None:  # nothing else draws random numbers in a loader process
            seed_generators(entropy)
            return self._read(index)
        with seeded(*entropy):
            return self._read(index)

    def _read(self, index: int) -> dict[str, Any]:
        if self.kept is None:
            return super().__getitem__(index)
        path, pid, camera = self.img_items[index][:3]
        if index not in self.kept:
            self.kept[index] = self.fixed(common.read_image(path))
        image = self.random(self.kept[index].copy())  # a transform may draw into its image
        return {"images": image, "targets": self.pid_dict[pid], "camids": self.cam_dict[camera], "img_paths": path}
