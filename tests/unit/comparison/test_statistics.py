"""Statistics against values worked out by hand; intervals to 1e-9, since older SciPys give t quantiles to 1e-11."""

import math

import pytest

from switchablecompat.comparison.statistics import (
    Spread,
    compatibility_scores,
    paired_difference,
    spread,
    update_gain,
)


def test_spread_is_the_sample_standard_deviation():
    # Mean 7/3; squared deviations (16 + 1 + 25)/9 = 14/3; divided by n - 1 = 2: 7/3.
    found = spread([1.0, 2.0, 4.0])
    assert (found.mean, found.std, found.n) == (pytest.approx(7 / 3), pytest.approx(math.sqrt(7 / 3)), 3)


def test_one_value_has_no_spread_and_none_has_nothing():
    assert spread([5.0]) == Spread(5.0, None, 1)
    assert spread([None, 5.0, None]) == Spread(5.0, None, 1)
    assert spread([]) is None
    assert spread([None]) is None


def test_paired_difference_of_three_seeds():
    # Differences 1, 2, 3: mean 2, s = 1. Student's t with 2 degrees of freedom has the closed quantile
    # (2p - 1) / sqrt(2 p (1 - p)): 0.95 / sqrt(0.04875) = 4.3027 at p = 0.975.
    found = paired_difference({0: 11.0, 1: 22.0, 2: 33.0}, {2: 30.0, 0: 10.0, 1: 20.0})
    half = 0.95 / math.sqrt(0.04875) / math.sqrt(3)
    assert (found.mean, found.n) == (2.0, 3)
    assert (found.low, found.high) == (pytest.approx(2 - half, rel=1e-9), pytest.approx(2 + half, rel=1e-9))
    assert not found.sure


def test_two_seeds_give_the_wide_interval_they_deserve():
    # One degree of freedom: the Cauchy quantile tan(pi (p - 1/2)) = 12.706; s = sqrt(2) * 0.5, s / sqrt(2) = 0.5.
    found = paired_difference({0: 10.0, 1: 11.0}, {0: 0.0, 1: 0.0})
    assert found.high == pytest.approx(10.5 + math.tan(math.pi * 0.475) * 0.5, rel=1e-9)
    assert found.sure


def test_overlapping_splits_widen_the_interval_by_the_share_of_their_test_set():
    # Differences 1, 2, 3 of three random halves: s^2 (1/3 + 1) in place of s^2 / 3 (Nadeau and Bengio), twice as wide.
    ours, theirs = {0: 11.0, 1: 22.0, 2: 33.0}, {0: 10.0, 1: 20.0, 2: 30.0}
    plain, halves = paired_difference(ours, theirs), paired_difference(ours, theirs, 1.0)
    assert (halves.mean, halves.n) == (plain.mean, plain.n)
    assert halves.high - 2 == pytest.approx(2 * (plain.high - 2), rel=1e-12)
    thirds = paired_difference(ours, theirs, 0.5)  # a third of the items is the test set
    assert 2 - thirds.low == pytest.approx(math.sqrt(1 + 3 / 2) * (2 - plain.low), rel=1e-12)


def test_one_seed_gives_no_interval_and_is_never_sure():
    found = paired_difference({0: 50.0, 1: None, 2: 9.0}, {0: 10.0, 1: 3.0})
    assert (found.mean, found.low, found.high, found.n) == (40.0, None, None, 1)
    assert not found.sure
    assert paired_difference({0: 1.0}, {1: 1.0}) is None


@pytest.mark.parametrize(
    ("cross", "old", "independent", "expected"),
    [
        (68.03, 58.19, 80.91, 9.84 / 22.72),  # the SFSC paper's corner of Market-1501
        (58.69, 55.55, 80.91, 3.14 / 25.36),  # its BCT
        (50.0, 60.0, 80.0, -0.5),  # worse than no update
        (80.0, 60.0, 80.0, 1.0),
        (70.0, 60.0, 60.0, None),  # the new model alone is no better: there is no gain to share
        (70.0, 60.0, 50.0, None),
        (None, 60.0, 80.0, None),
        (70.0, None, 80.0, None),
        (70.0, 60.0, None, None),
    ],
)
def test_update_gain(cross, old, independent, expected):
    assert update_gain(cross, old, independent) == (None if expected is None else pytest.approx(expected, rel=1e-9))


def test_advbct_scores_of_the_papers_corner():
    # (81.43 - 80.91) / 80.91 = 0.0064269: sigmoid 0.501607; gain 0.433099: sigmoid 0.606613; harmonic mean 0.549137.
    found = compatibility_scores(68.03, 58.19, 81.43, 80.91)
    assert found["P_up"] == pytest.approx(50.1607, abs=1e-4)
    assert found["P_comp"] == pytest.approx(60.6613, abs=1e-4)
    assert found["P_1"] == pytest.approx(54.9137, abs=1e-3)


def test_advbct_scores_at_their_fixed_points():
    same = compatibility_scores(60.0, 60.0, 80.0, 80.0)  # nothing lost, nothing gained
    assert (same["P_up"], same["P_comp"], same["P_1"]) == (50.0, 50.0, 50.0)
    full = compatibility_scores(80.0, 60.0, 80.0, 80.0)  # all of the gain
    assert full["P_comp"] == pytest.approx(100 / (1 + math.exp(-1)), rel=1e-12)


def test_advbct_scores_that_cannot_be_told():
    missing = compatibility_scores(58.69, 55.55, None, 80.91)  # BCT: the new model is the reference itself
    assert (missing["P_up"], missing["P_1"]) == (None, None)
    assert missing["P_comp"] is not None
    assert compatibility_scores(1.0, 1.0, 1.0, None)["P_up"] is None
