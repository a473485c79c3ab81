"""Which images a training step sees, and how they are augmented: a matter of seed, epoch and position alone.

FastReID draws both from the processes' global generators as it goes: what a run sees then depends on how often it was
interrupted, on the number of loader workers and on what else draws random numbers. Here an epoch starts from a seed of
its own, and so does the augmentation of every image in it, by its position in the epoch. A run that is resumed at any
step therefore sees what an uninterrupted one does, with any number of workers; and with ``TrainingSampler``, whose
order does not depend on the number of processes, n processes see together what one process sees.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from fastreid.data import CommDataset
from fastreid.utils import comm
from torch.utils.data import Sampler, get_worker_info

Key = tuple[int, tuple[int, int, int]]  # an image's index in the data set; what its augmentation is seeded by


def mixed_seeds(entropy: Sequence[int], count: int = 1) -> list[int]:
    """Seeds below 2**32 from several numbers; they differ, and look random, if any of these does."""
    numbers = [len(entropy), *(number % 2**32 for number in entropy)]  # NumPy takes (1,) and (1, 0) for the same
    return np.random.SeedSequence(numbers).generate_state(count).tolist()


def seed_generators(entropy: Sequence[int]) -> None:
    """Seed Python's, NumPy's and torch's CPU generator."""
    # One for each: NumPy and torch would draw the same numbers from the same seed.
    for_python, for_numpy, for_torch = mixed_seeds(entropy, 3)
    random.seed(for_python)
    np.random.seed(for_numpy)
    torch.default_generator.manual_seed(for_torch)


@contextmanager
def seeded(*entropy: int) -> Iterator[None]:
    """Seed Python's, NumPy's and torch's CPU generator for a block; after it they go on as if nothing was drawn."""
    states = random.getstate(), np.random.get_state(), torch.default_generator.get_state()
    try:
        seed_generators(entropy)
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.default_generator.set_state(states[2])


class EpochSampler(Sampler[Key]):
    """The endless stream of this process, one seeded epoch after the other.

    Args:
        sampler: One of FastReID's training samplers, which decides on an epoch's images.
        seed: Seed of the run, the same in all processes.
        length: Images of an epoch over all processes, a multiple of their common batch.

    Attributes:
        first_epoch: Where the next iterator starts.
        first_position: Images of that epoch, over all processes, that it leaves out.
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
        """Indices of an epoch's images over all processes, [length]."""
        (self.sampler._seed,) = mixed_seeds((self.seed, number))
        with seeded(self.seed, number):
            return [int(index) for index in itertools.islice(self.sampler._infinite_indices(), self.length)]


class SeededImages(CommDataset):
    """FastReID's data set with the keys of an :class:`EpochSampler`: the augmentation follows the key's seed."""

    def __getitem__(self, key: Key) -> dict[str, Any]:
        index, entropy = key
        if get_worker_info() is not None:  # in a loader's process nothing else draws random numbers
            seed_generators(entropy)
            return super().__getitem__(index)
        with seeded(*entropy):
            return super().__getitem__(index)
