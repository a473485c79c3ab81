"""What a step sees depends on seed, epoch and position alone."""

import itertools
import random

import numpy as np
import pytest
import torch
from fastreid.data import common, samplers
from fastreid.utils import comm
from PIL import Image
from torchvision import transforms

from switchablecompat.data.streams import EpochSampler, SeededImages, mixed_seeds, seeded

ITEMS = [(f"{pid}_{k}.png", f"p{pid}", f"c{k % 2}") for pid in range(8) for k in range(4)]
SAMPLERS = {
    "TrainingSampler": lambda: samplers.TrainingSampler(len(ITEMS)),
    "NaiveIdentitySampler": lambda: samplers.NaiveIdentitySampler(ITEMS, 8, 2),
    "BalancedIdentitySampler": lambda: samplers.BalancedIdentitySampler(ITEMS, 8, 2),
    "ImbalancedDatasetSampler": lambda: samplers.ImbalancedDatasetSampler(ITEMS),
}


def draw():
    return random.random(), np.random.rand(), torch.rand(1).item()


def take(sampler, count):
    return list(itertools.islice(iter(sampler), count))


@pytest.mark.parametrize("name", SAMPLERS)
def test_an_epoch_does_not_depend_on_those_before_it_nor_on_anything_else_drawn(name):
    one, other = (EpochSampler(SAMPLERS[name](), 7, 24) for _ in range(2))
    whole = take(one, 72)
    other.first_epoch = 2
    draw()
    assert take(other, 24) == whole[48:]
    assert [entropy for _, entropy in whole] == [(7, epoch, k) for epoch in range(3) for k in range(24)]
    epochs = [[index for index, _ in whole[k : k + 24]] for k in (0, 24, 48)]
    assert epochs[0] != epochs[1] != epochs[2]
    assert EpochSampler(SAMPLERS[name](), 8, 24).epoch(0) != epochs[0]


def test_an_epoch_can_begin_within_for_any_number_of_processes(monkeypatch):
    whole = take(EpochSampler(SAMPLERS["TrainingSampler"](), 7, 24), 48)
    sampler, parts = EpochSampler(SAMPLERS["TrainingSampler"](), 7, 24), []
    sampler.first_position = 16
    assert take(sampler, 32) == whole[16:]
    assert take(sampler, 8) == whole[16:24], "and again, as long as it says so"
    monkeypatch.setattr(comm, "get_world_size", lambda: 2)
    for rank in range(2):
        monkeypatch.setattr(comm, "get_rank", lambda rank=rank: rank)
        parts.append(take(sampler, 16))
    assert [key for pair in zip(*parts, strict=True) for key in pair] == whole[16:]


def test_fastreids_sampler_still_decides():
    """No image twice in an epoch of TrainingSampler; two images of every identity in a batch of identity samplers."""
    assert len({index for index, _ in take(EpochSampler(SAMPLERS["TrainingSampler"](), 7, 32), 32)}) == 32
    batch = EpochSampler(SAMPLERS["NaiveIdentitySampler"](), 7, 24).epoch(0)[:8]
    pids = [ITEMS[index][1] for index in batch]
    assert sorted(pids.count(pid) for pid in set(pids)) == [2, 2, 2, 2]


def test_two_processes_see_together_what_one_sees(monkeypatch):
    whole = take(EpochSampler(SAMPLERS["TrainingSampler"](), 7, 24), 48)
    sampler, parts = EpochSampler(SAMPLERS["TrainingSampler"](), 7, 24), []
    monkeypatch.setattr(comm, "get_world_size", lambda: 2)
    for rank in range(2):
        monkeypatch.setattr(comm, "get_rank", lambda rank=rank: rank)
        parts.append(take(sampler, 24))
    assert [key for pair in zip(*parts, strict=True) for key in pair] == whole


def test_an_image_is_augmented_by_its_key_alone(tmp_path):
    path = tmp_path / "x.png"
    Image.fromarray(np.random.randint(0, 255, (16, 8, 3), dtype=np.uint8)).save(path)
    augment = transforms.Compose([transforms.RandomCrop(6), transforms.PILToTensor()])
    images = SeededImages([(str(path), "p", "c")], augment)
    crops = []
    for position in range(10):
        draw()
        crops.append(images[0, (7, 0, position)]["images"])
        draw()
        assert torch.equal(images[0, (7, 0, position)]["images"], crops[-1])
    assert len({tuple(crop.flatten().tolist()) for crop in crops}) > 1
    assert images.num_classes == 1


@pytest.mark.parametrize("first", ["resize", "random"])
def test_kept_images_are_augmented_as_freshly_read_ones_and_each_file_is_read_once(tmp_path, monkeypatch, first):
    path = tmp_path / "x.png"
    Image.fromarray(np.random.randint(0, 255, (16, 8, 3), dtype=np.uint8)).save(path)

    def scribble(image):
        image.putpixel((0, 0), tuple(np.random.randint(0, 255, 3).tolist()))  # into the image itself
        return image

    steps = [transforms.Resize((12, 12), interpolation=3), transforms.RandomCrop(6), scribble, transforms.PILToTensor()]
    augment = transforms.Compose(steps if first == "resize" else steps[1:])
    fresh = SeededImages([(str(path), "p", "c")], augment)
    expected = [fresh[0, (7, 0, position)] for position in range(10)]
    reads = []
    monkeypatch.setattr(common, "read_image", lambda name, read=common.read_image: reads.append(name) or read(name))
    kept = SeededImages([(str(path), "p", "c")], augment, keep=True)
    for position, one in enumerate(expected):
        again = kept[0, (7, 0, position)]
        assert torch.equal(again.pop("images"), one.pop("images"))
        assert again == one == {"targets": 0, "camids": 0, "img_paths": str(path)}
    assert reads == [str(path)]


def test_outside_of_the_block_nothing_was_drawn_and_inside_the_generators_differ():
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    expected = draw()
    random.setstate(states[0])
    np.random.set_state(states[1])
    torch.set_rng_state(states[2])
    with pytest.raises(ZeroDivisionError), seeded(1, 2):  # noqa: PT012
        inside = draw()
        raise ZeroDivisionError
    assert draw() == expected
    with seeded(1, 2):
        assert draw() == inside
    assert len({round(number, 6) for number in inside}) == 3


def test_seeds_are_mixed():
    """Neighbours, the order of the parts and a negative seed matter."""
    entropies = [(0, 0), (0, 1), (1, 0), (1, 1), (-1, 0), (0, 0, 0), (2**32 - 2, 0)]
    seeds = [seed for entropy in entropies for seed in mixed_seeds(entropy, 2)]
    assert len({*seeds}) == 2 * len(entropies)
