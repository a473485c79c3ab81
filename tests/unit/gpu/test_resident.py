"""Pictures that stay on the device, and their augmentation."""

import numpy as np
import pytest
import torch

from gpu.persons import PARTS, TINY, draw_all
from gpu.resident import PADDING, Pictures, ResidentLoader, augment, load_persons
from switchablecompat.data.synthetic import draw


def test_parts_are_numbered_on_their_own_and_queries_meet_their_gallery(tmp_path):
    content = draw_all(TINY, 1)
    np.savez(tmp_path / "persons.npz", **content)
    parts = load_persons(tmp_path / "persons.npz", "cpu", 0.0)
    assert [*parts] == [*PARTS]
    assert {name: (part.classes, len(part.images)) for name, part in parts.items()} == {
        "start": (10, 40), "train": (6, 24), "query": (6, 12), "gallery": (6, 24)
    }  # fmt: skip
    people = {name: {*content["pids"][content["part"] == number]} for number, name in enumerate(PARTS)}
    assert people["query"] == people["gallery"]
    assert not people["start"] & people["train"] | people["train"] & people["query"] | people["start"] & people["query"]
    for pid, camid in zip(parts["query"].pids, parts["query"].camids, strict=True):
        same = (parts["gallery"].pids == pid) & (parts["gallery"].camids != camid)
        assert same.any(), "each query has a match in another camera"
    for number in (3, 70):
        picture = draw(TINY, list(TINY.jobs())[number])
        assert np.array_equal(picture, content["images"][number].transpose(1, 2, 0)), "it is drawn from its job alone"


def test_a_file_that_does_not_come_is_an_error(tmp_path):
    with pytest.raises(TimeoutError):
        load_persons(tmp_path / "nowhere.npz", "cpu", 0.0)


def test_batches_have_four_pictures_of_each_person_and_follow_the_seed():
    images = torch.randint(0, 256, (30, 3, 16, 8), dtype=torch.uint8)
    pictures = Pictures(images, torch.arange(30) % 5, torch.arange(30) % 3)

    def first(seed):
        return next(iter(ResidentLoader(pictures, 16, 3, seed)))

    batch = first(0)
    assert batch["targets"].view(4, 4).eq(batch["targets"].view(4, 4)[:, :1]).all()
    assert batch["targets"].view(4, 4)[:, 0].unique().numel() == 4
    assert torch.equal(batch["images"], first(0)["images"])
    assert not torch.equal(batch["images"], first(1)["images"])


def test_augmented_pictures_are_shifted_mirrored_and_erased_ones_of_the_batch():
    n, height, width = 400, 24, 12
    # each pixel knows where it was: row in the first channel, column in the second; the third is never zero
    image = torch.stack(
        (torch.arange(height).view(-1, 1).expand(height, width), torch.arange(width).expand(height, width),
         torch.full((height, width), 200))
    ).float()  # fmt: skip
    out = augment(image.repeat(n, 1, 1, 1), torch.Generator().manual_seed(0))
    mean = torch.tensor([123.675, 116.28, 103.53])
    erased = (out - mean.view(1, 3, 1, 1)).abs().amax(dim=1) < 1e-3
    kept = (out[:, 2] == 200) & ~erased
    assert ((out[:, 2] == 0) | kept | erased).all(), "a pixel is one of the picture, of the border, or erased"
    shares = erased.flatten(1).float().mean(dim=1)
    assert 0.4 < (shares > 0).float().mean() < 0.6
    assert shares.max() <= 0.45
    assert shares[shares > 0].mean() == pytest.approx(0.2, abs=0.06)
    mirrored, rows = 0, set()
    for picture, mask in zip(out, kept, strict=True):
        y, x = mask.nonzero(as_tuple=True)
        if len(y) < 30:
            continue
        shift = (picture[0][mask] - y).unique()
        assert len(shift) == 1
        rows.add(int(shift))
        sums, differences = (picture[1][mask] + x).unique(), (picture[1][mask] - x).unique()
        assert len(sums) == 1 or len(differences) == 1
        mirrored += len(sums) == 1 and len(differences) > 1
    assert {-PADDING, 0, PADDING} & rows
    assert min(rows) >= -PADDING
    assert max(rows) <= PADDING
    assert 0.4 * n < mirrored < 0.6 * n
