"""Ranks of a few items against a stable sort of the whole list."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from switchablecompat.evaluation.exact_ranks import MAX_COUNTED, ranks_of


def by_sorting(scores, places):
    order = np.argsort(-scores, kind="stable")
    return np.flatnonzero(np.isin(order, places)) + 1


@settings(max_examples=300, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    length=st.integers(1, 400),
    share=st.floats(0, 1),
    values=st.sampled_from([1, 2, 5, 1000]),
    junk=st.floats(0, 0.5),
)
def test_agree_with_a_stable_sort(seed, length, share, values, junk):
    rng = np.random.default_rng(seed)
    scores = rng.integers(-values, values + 1, length).astype(np.float32)
    places = rng.permutation(length)[: max(1, int(share * length))]
    out = np.setdiff1d(np.flatnonzero(rng.random(length) < junk), places)
    scores[out] = -np.inf
    np.testing.assert_array_equal(ranks_of(scores, places), by_sorting(scores, places))


@pytest.mark.parametrize("count", [1, 3, MAX_COUNTED, MAX_COUNTED + 1, 300])
@pytest.mark.parametrize("where", ["anywhere", "lowest", "highest"])
def test_few_and_many_survivors(count, where):
    rng = np.random.default_rng(count)
    scores = rng.standard_normal(5000).astype(np.float32)
    places = {
        "anywhere": rng.permutation(5000)[:count],
        "lowest": np.argsort(scores)[:count],
        "highest": np.argsort(scores)[-count:],
    }[where]
    np.testing.assert_array_equal(ranks_of(scores, places), by_sorting(scores, places))


def test_positive_and_negative_zero_tie():
    scores = np.array([-0.0, 0.0, -0.0, 0.0], np.float32)
    assert [ranks_of(scores, np.array([place])).tolist() for place in range(4)] == [[1], [2], [3], [4]]


def test_neighbouring_floats_are_told_apart():
    tiny = np.finfo(np.float32).tiny
    below_one = np.nextafter(np.float32(1), np.float32(0))
    falling = np.array([1.0, below_one, tiny, 0.0, -tiny, -0.5, -1.0, -np.inf], np.float32)
    for scores, rank in ((falling, range(1, 9)), (falling[::-1].copy(), range(8, 0, -1))):
        assert [ranks_of(scores, np.array([place]))[0] for place in range(8)] == list(rank)


def test_what_was_given_stays_as_it_was():
    scores, places = np.array([0.1, 0.9, 0.5], np.float32), np.array([2, 0, 1])
    assert ranks_of(scores, places).tolist() == [1, 2, 3]
    assert places.tolist() == [2, 0, 1]
    assert scores.tolist() == np.array([0.1, 0.9, 0.5], np.float32).tolist()
