"""Thresholds against sorting all scores, against scikit-learn, and by hand; a planted shift shows in the shared one."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import roc_curve

from switchablecompat.errors import InputError
from switchablecompat.evaluation.ranking import ProtocolMatches
from switchablecompat.evaluation.similarities import STEPS, SimilarityCounts, count_similarities
from switchablecompat.family.verification import (
    MeasuredPoint,
    OperatingPoint,
    own_point,
    threshold_at,
    verify,
)


def counts_of(genuine, impostor):
    """Counts of scores that are multiples of 1/STEPS or lie well between two."""
    steps = (np.floor(np.asarray(side, dtype=np.float64) * STEPS).astype(int) + STEPS for side in (genuine, impostor))
    return SimilarityCounts(*(np.bincount(step, minlength=2 * STEPS + 1) for step in steps))


def scores(rng, mean, size):
    """Scores in the middle of a step, so that no rounding decides."""
    return (np.floor(np.clip(rng.normal(mean, 0.2, size), -0.99, 0.99) * STEPS) + 0.5) / STEPS


@pytest.mark.parametrize("target", [0.1, 0.01, 0.001])
@pytest.mark.parametrize("seed", range(3))
def test_agrees_with_sorting_all_scores_and_with_scikit_learn(target, seed):
    rng = np.random.default_rng(seed)
    genuine, impostor = scores(rng, 0.6, 2000), scores(rng, 0.0, 20_000)
    counts = counts_of(genuine, impostor)
    threshold, reason = threshold_at(counts, target)
    point = own_point(counts, target)
    assert reason == ""
    # The exact threshold lies above the first score that must be refused; ours is the next edge of four decimals.
    refused = np.sort(impostor)[::-1][int(target * len(impostor))]
    assert refused < threshold <= refused + 1 / STEPS
    assert point == MeasuredPoint(threshold, 100 * np.mean(genuine >= threshold), np.mean(impostor >= threshold))
    fpr, tpr, thresholds = roc_curve(
        np.repeat([1, 0], [2000, 20_000]), np.concatenate([genuine, impostor]), drop_intermediate=False
    )
    last = np.flatnonzero(thresholds >= threshold)[-1]
    assert (point.far, point.tar) == (pytest.approx(fpr[last], abs=1e-12), pytest.approx(100 * tpr[last], abs=1e-9))
    assert fpr[last] <= target < fpr[last + 1]


def test_hand_computed():
    # 1000 impostor pairs, ten of them at 0.5 or above: 0.5 keeps FAR 0.01 exactly, a step lower lets the eleventh in.
    impostor = [0.9, *[0.5] * 9, 0.4999, *[0.0] * 989]
    counts = counts_of([0.8, 0.5, 0.4999, 0.1], impostor)
    assert threshold_at(counts, 0.01) == (0.5, "")
    assert MeasuredPoint.of(counts, 0.5) == MeasuredPoint(0.5, 50.0, 0.01)
    # An eleventh at 0.5: all of the ten must go, up to the step above them; one pair is left.
    crowded = counts_of([0.8, 0.5, 0.4999, 0.1], [0.5, *impostor[:-1]])
    assert threshold_at(crowded, 0.01) == (0.5001, "")
    assert MeasuredPoint.of(crowded, 0.5001) == MeasuredPoint(0.5001, 25.0, 0.001)


def test_too_few_impostors_give_no_number_and_the_reason():
    few, enough = (counts_of([0.5], np.linspace(-0.5, 0.4, n)) for n in (999, 1000))
    assert threshold_at(few, 0.01) == (None, "999 impostor pairs are too few for FAR 0.01, which needs 1000")
    assert threshold_at(enough, 0.01)[0] is not None
    found = verify({(0, 0): few}, 0.01)
    assert found.own[0, 0] == OperatingPoint(None, None, None, threshold_at(few, 0.01)[1])
    for shared in (found.pooled, found.strictest):
        assert (shared.threshold, shared.points, shared.highest_far, shared.lowest_tar) == (None, {}, None, None)
        assert "too few" in shared.reason


def test_constant_features_have_no_threshold():
    assert threshold_at(counts_of([1.0], [1.0] * 5000), 0.01) == (
        None,
        "even a similarity of 1 accepts more impostor pairs than FAR 0.01",
    )


@pytest.mark.parametrize("target", [0.0, 1.0, float("nan"), 5])
def test_a_target_is_a_share(target):
    with pytest.raises(InputError, match=r"target FAR: must be in \(0, 1\)"):
        verify({(0, 0): counts_of([0.5], [0.1])}, target)


def test_shared_thresholds_by_hand():
    # Two cells of 100 impostor pairs at target 0.1. Own: the tenth highest decides. Pooled: the twentieth of all 200.
    low = counts_of([0.9, 0.25], [*[0.2] * 10, *[0.0] * 90])
    high = counts_of([0.9, 0.55], [*[0.6] * 10, *[0.5] * 20, *[0.0] * 70])
    found = verify({(0, 0): low, (0, 1): high}, 0.1)
    assert [found.own[cell].threshold for cell in ((0, 0), (0, 1))] == [0.0001, 0.5001]
    # At 0.5 thirty pairs of the second cell are accepted: 0.15 of all. A step above, ten: 0.05.
    assert found.pooled.threshold == found.strictest.threshold == 0.5001
    assert found.pooled.points == {
        (0, 0): MeasuredPoint(0.5001, 50.0, 0.0),
        (0, 1): MeasuredPoint(0.5001, 100.0, 0.1),
    }
    assert (found.pooled.highest_far, found.pooled.lowest_tar) == ((0, 1), (0, 0))


def test_a_shifted_sub_model_shows_in_the_shared_threshold():
    """One direction is added to all features of the second sub-model: its own pairs all become more alike."""
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(60, 32, generator=generator)
    pids = torch.arange(60).repeat(4)
    camids = torch.arange(4).repeat_interleave(60)
    features = centres[pids] + 0.8 * torch.randn(240, 32, generator=generator)
    shift = torch.zeros(32)
    shift[0] = 4.0
    values = [F.normalize(features), F.normalize(features + shift)]
    matches = ProtocolMatches(pids[:60], pids[60:], camids[:60], camids[60:])
    cells = {(q, g): count_similarities(values[q][:60], values[g][60:], matches) for q in (0, 1) for g in (0, 1)}
    found = verify(cells, 0.01)

    alike = verify(dict.fromkeys(cells, cells[0, 0]), 0.01)  # without the shift all cells are the same
    assert {point.far for point in alike.pooled.points.values()} == {alike.own[0, 0].far}

    far = {cell: point.far for cell, point in found.pooled.points.items()}
    assert found.pooled.highest_far == (1, 1)
    assert far[1, 1] > 2 * 0.01
    assert max(far[0, 0], far[0, 1], far[1, 0]) < 0.01
    assert found.own[1, 1].threshold > found.own[0, 0].threshold + 0.1
    assert found.strictest.threshold == found.own[1, 1].threshold
    assert all(point.far <= 0.01 for point in found.strictest.points.values())
    assert found.strictest.points[0, 0].tar < found.own[0, 0].tar - 10
