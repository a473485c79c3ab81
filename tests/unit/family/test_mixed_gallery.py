"""A gallery that is re-encoded step by step: its ends, a mixture worked out by hand, and the orders."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from switchablecompat.evaluation.ranking import ProtocolMatches, rank_queries
from switchablecompat.family.mixed_gallery import isolated_first, mixed_gallery_map, random_order


def test_a_mixture_can_be_worse_than_both_ends():
    # One query; a right item at 0.5 (old) and 0.9 (new), a wrong one at 0.4 and 0.8: right at both ends. With the wrong
    # one re-encoded first it scores 0.8 against 0.5: AP 1/2.
    query, old, new = torch.ones(1, 1), torch.tensor([[0.5], [0.4]]), torch.tensor([[0.9], [0.8]])
    matches = ProtocolMatches([1], [1, 2], [0], [1, 1])
    assert mixed_gallery_map(query, old, new, matches, np.array([1, 0]), shares=(0, 50, 100)) == [100.0, 50.0, 100.0]
    assert mixed_gallery_map(query, old, new, matches, np.array([0, 1]), shares=(0, 50, 100)) == [100.0] * 3


def test_every_share_is_the_ranking_of_the_gallery_put_together_by_hand():
    query, old, new = (F.normalize(torch.randn(n, 6)) for n in (15, 37, 37))
    rng = np.random.default_rng(0)
    labels = [rng.integers(high, size=n) for high in (6, 3) for n in (15, 37)]
    order = random_order(37, 5)
    found = mixed_gallery_map(query, old, new, ProtocolMatches(*labels), order, shares=(0, 33, 50, 100))
    for share, value in zip((0, 33, 50, 100), found, strict=True):
        renewed = {int(item) for item in order[: round(0.37 * share)]}
        mixed = torch.stack([new[i] if i in renewed else old[i] for i in range(37)])
        assert value == rank_queries(query, mixed, *labels).mAP
    assert len({*found}) == 4  # else the shares would make no difference here


def test_the_callers_gallery_is_left_alone():
    old, new = torch.ones(3, 1), torch.zeros(3, 1)
    mixed_gallery_map(torch.ones(1, 1), old, new, ProtocolMatches([1], [1, 2, 2], [0], [1, 1, 1]), np.arange(3))
    assert old.tolist() == [[1.0]] * 3


def test_random_orders_are_permutations_that_the_seed_decides():
    first, again, other = random_order(50, 3), random_order(50, 3), random_order(50, 4)
    assert sorted(first) == list(range(50))
    assert first.tolist() == again.tolist() != other.tolist()


def test_isolated_items_come_first():
    # On a circle, in degrees: 0, 2 and 4 are close together, 90 and 100 a pair, 200 alone. Two neighbours each:
    # 200 is 100 and 110 away, 90 is 10 and 86 away, 100 is 10 and 96 away, 0 is 2 and 4, 4 is 2 and 4, 2 is 2 and 2.
    angles = torch.deg2rad(torch.tensor([0.0, 90.0, 2.0, 200.0, 4.0, 100.0]))
    gallery = torch.stack([angles.cos(), angles.sin()], dim=1)
    assert isolated_first(gallery, neighbours=2)[:3].tolist() == [3, 5, 1]
    assert isolated_first(gallery, neighbours=2)[-1] == 2


@pytest.mark.parametrize("block_bytes", [1, 3000, 2**20])
def test_isolation_is_the_mean_of_the_nearest_neighbours(block_bytes):
    gallery = F.normalize(torch.randn(40, 5))
    means = []
    for item in range(40):
        others = sorted((float(gallery[item] @ gallery[o]) for o in range(40) if o != item), reverse=True)
        means.append(np.mean(others[:10]))
    assert isolated_first(gallery, block_bytes=block_bytes).tolist() == np.argsort(means).tolist()


def test_small_galleries_have_fewer_neighbours():
    assert isolated_first(torch.ones(1, 2)).tolist() == [0]
    assert isolated_first(F.normalize(torch.tensor([[1.0, 0.0], [1.0, 0.1], [-1.0, 0.0]])))[0] == 2
