"""The CMC curve against the definition, one query at a time."""

import numpy as np
import pytest

from switchablecompat.errors import InputError
from switchablecompat.evaluation.cmc import cmc_curve


def test_hand_computed():
    # Four valid queries: hits at 1, 1, 3 and 7; the fifth has no match.
    assert cmc_curve(np.array([1, 3, 1, 7, 0]), 5).tolist() == [50.0, 50.0, 75.0, 75.0, 75.0]


def test_every_rank_is_the_share_of_queries_that_have_hit():
    ranks = np.random.default_rng(0).integers(0, 40, size=300)
    curve = cmc_curve(ranks, 30)
    valid = [rank for rank in ranks if rank]
    expected = [100 * sum(rank <= k for rank in valid) / len(valid) for k in range(1, 31)]
    np.testing.assert_allclose(curve, expected, rtol=1e-14)


def test_nothing_to_count_is_refused():
    with pytest.raises(InputError, match="must hold a query with a match, found 2 without"):
        cmc_curve(np.array([0, 0]), 5)
    with pytest.raises(InputError, match="max_rank: must be at least 1, found 0"):
        cmc_curve(np.array([1]), 0)
