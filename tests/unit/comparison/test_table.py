"""The numbers of the table, worked out by hand from fabricated results."""

import math
from dataclasses import replace

import pytest

from switchablecompat.comparison.render import render_markdown
from switchablecompat.comparison.table import Comparison
from switchablecompat.errors import InputError

from .conftest import make_result


@pytest.fixture
def comparison(suite, results):
    return Comparison(suite, results)


def by_seed(comparison, method, name):
    return [comparison.measures[name](comparison.of(method)[seed]) for seed in (0, 1)]


def test_cells_over_seeds(comparison):
    found = comparison.spread("ours", 0, 1)  # 56 and 60
    assert (found.mean, found.std, found.n) == (58.0, pytest.approx(math.sqrt(8)), 2)
    assert comparison.spread("unified", 0, 1) is None
    assert comparison.spread("ours", 0, 1, "negative_flips").mean == 5.0


def test_differences_are_paired_by_seed(comparison):
    # Seed 0: 50 - 46 = 4, seed 1: 54 - 52 = 2. Mean 3, s = sqrt(2), half = 12.706 * s / sqrt(2).
    found = comparison.difference("bct", 0, 0)
    assert (found.mean, found.n) == (3.0, 2)
    assert found.high == pytest.approx(3 + math.tan(math.pi * 0.475), rel=1e-9)
    assert comparison.difference("bct", 1, 1) is None
    assert comparison.baselines == ["unified", "bct"]


def test_the_mean_difference_is_over_the_cells_that_both_define(comparison):
    # Self-tests of ours minus unified: seed 0: 4 and -4, seed 1: 6 and -2 (as below). Means 0 and 2.
    found = comparison.mean_difference("unified")
    assert (found.mean, found.n) == (1.0, 2)
    assert found.high == pytest.approx(1 + math.tan(math.pi * 0.475), rel=1e-9)  # s = sqrt(2)


def test_suites_of_random_splits_have_corrected_intervals(suite, results):
    plain = Comparison(suite, results)
    corrected = Comparison(replace(suite, test_per_train=1.0), results)
    for of in (lambda c: c.difference("bct", 0, 0), lambda c: c.mean_difference("unified")):
        wide, narrow = of(corrected), of(plain)
        assert wide.high - wide.mean == pytest.approx(math.sqrt(3) * (narrow.high - narrow.mean), rel=1e-12)
    assert "corrected resampled t-test" in render_markdown(corrected)
    assert "corrected resampled t-test" not in render_markdown(plain)


def test_summary_measures(comparison):
    assert by_seed(comparison, "ours", "AC") == [100.0, 100.0]
    assert by_seed(comparison, "ours", "cross-tests judged") == [2, 2]
    assert by_seed(comparison, "bct", "cross-tests judged") == [0, 0]
    assert by_seed(comparison, "ours", "AM") == [58.5, 61.5]
    assert by_seed(comparison, "ours", "mean cross-test") == [57.0, 60.0]
    assert by_seed(comparison, "ours", "self-tests minus independent") == [0.0, 2.0]  # (4 - 4)/2, (6 - 2)/2
    assert by_seed(comparison, "ours", "negative flips") == [3.0, 5.0]
    assert by_seed(comparison, "ours", "training minutes") == [1.0, 2.0]
    assert comparison.summary("ours", "AM").mean == 60.0
    assert by_seed(comparison, "unified", "AC") == [None, None]


def test_update_scores_use_the_independent_model_of_the_same_seed(comparison):
    # Seed 0: (58 - 50)/(74 - 50) = 1/3; seed 1: (60 - 54)/(74 - 54) = 0.3.
    gains = [1 / 3, 0.3]
    assert by_seed(comparison, "ours", "update gain, w050 to w100") == pytest.approx(gains)
    assert by_seed(comparison, "ours", "update gain, mean of pairs") == pytest.approx(gains)
    comp = [100 / (1 + math.exp(-gain)) for gain in gains]
    up = [100 / (1 + math.exp(-(own - 74) / 74)) for own in (70, 72)]
    assert by_seed(comparison, "ours", "P_comp, w050 to w100") == pytest.approx(comp)
    assert by_seed(comparison, "ours", "P_up, w050 to w100") == pytest.approx(up)
    harmonic = [2 * a * b / (a + b) for a, b in zip(up, comp, strict=True)]
    assert by_seed(comparison, "ours", "P_1, w050 to w100") == pytest.approx(harmonic)
    # BCT's full model is the reference: no M(new, new) of its own, but a gain.
    assert by_seed(comparison, "bct", "P_up, w050 to w100") == [None, None]
    assert by_seed(comparison, "bct", "update gain, w050 to w100") == pytest.approx([-1 / 28, 3 / 22])


def test_missing_methods_and_seeds_leave_gaps_only(suite, results):
    alone = Comparison(suite, results[:1])
    assert (alone.methods, alone.baselines) == (["ours"], [])
    assert alone.spread("ours", 0, 0).std is None
    assert alone.measures["P_1, w050 to w100"](results[0]) is None
    assert Comparison(suite, results[2:]).baselines == []


def test_results_of_another_data_set_or_widths_are_refused(suite, results):
    other = make_result("bct", 1, [[1.0, 1.0], [1.0, 1.0]])
    object.__setattr__(other.grid, "dataset", "another")
    with pytest.raises(InputError, match="result of bct seed 1: dataset: must be fabricated .* found another"):
        Comparison(suite, [*results, other])


def test_header_says_what_the_times_and_numbers_depend_on(comparison):
    header = comparison.header()
    assert header["Data set"] == "fabricated. Fabricated numbers."
    assert header["Seeds"] == "0, 1"
    assert header["Hardware"] == "abacus, 1 CPU cores"
    assert header["Versions"] == "torch 0"
    assert header["Code"] == "sha256:0123456789ab..."


def test_results_of_several_states_of_the_code_are_told(suite, results):
    other = make_result("bct", 1, [[1.0, 1.0], [1.0, None]], code=["sha256:fedcba9876543210"])
    header = Comparison(suite, [*results[:5], other]).header()
    assert header["Code"].startswith("**made by 2 different states of the code**: sha256:0123")
