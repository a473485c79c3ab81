"""Metrics of given rankings: the project's exact ranking and hand-computed cases."""

import numpy as np
import pytest
import torch

from gallery_builders import unit_features
from switchablecompat.deploy.gallery.scoring import score_lists
from switchablecompat.errors import InputError
from switchablecompat.evaluation.ranking import rank_queries


@pytest.mark.parametrize("labels", [int, str])
def test_complete_rankings_give_the_metrics_of_exact_ranking(labels):
    generator = np.random.default_rng(0)
    queries, gallery = unit_features(40, 16, seed=1), unit_features(90, 16, seed=2)
    pids, camids = (generator.integers(0, high, 130).astype(labels) for high in (12, 4))
    pids[:3] = labels(99)  # queries without a match
    parts = pids[:40], pids[40:], camids[:40], camids[40:]
    numbers = [np.unique(part, return_inverse=True)[1] for part in (pids, camids)]
    expected = rank_queries(
        torch.from_numpy(queries),
        torch.from_numpy(gallery),
        *(side for values in numbers for side in (values[:40], values[40:])),
    )
    order = np.argsort(-(queries.astype(np.float64) @ gallery.T.astype(np.float64)), axis=1)
    result = score_lists([order[:7], order[7:]], *parts)
    assert np.array_equal(result.valid, expected.valid)
    assert np.array_equal(result.first_hit_rank, expected.first_hit_rank)
    np.testing.assert_allclose(result.average_precision, expected.average_precision, rtol=1e-12)
    np.testing.assert_allclose(result.inverse_negative_penalty, expected.inverse_negative_penalty, rtol=1e-12)
    assert result.mAP == pytest.approx(expected.mAP)


def test_what_is_not_returned_counts_as_never_found():
    gallery_pids, gallery_camids = [1, 1, 1, 2, 1, 2], [0, 1, 2, 0, 3, 1]
    lists = np.array([
        [3, 0, 1, 5, 4, -1],  # junk at second place; positives 1 and 4 at ranks 2 and 4 of three positives
        [0, 3, -1, -1, -1, -1],  # positive 3 at rank 2 of two
        [0, 1, -1, -1, -1, -1],  # none of its two positives
    ])  # fmt: skip
    result = score_lists([lists], [1, 2, 2], gallery_pids, [0, 9, 9], gallery_camids)
    np.testing.assert_allclose(result.average_precision, [(1 / 2 + 2 / 4) / 3, (1 / 2) / 2, 0])
    assert result.first_hit_rank[:2].tolist() == [2, 2]
    assert result.inverse_negative_penalty.tolist() == [0, 0, 0]
    assert result.rank_k(1) == 0
    assert result.rank_k(2) == pytest.approx(200 / 3)
    for k in (6, 7, 10**9):  # however large k is: the third query found nothing
        assert result.rank_k(k) == pytest.approx(200 / 3)


def test_labels_without_any_match_are_refused():
    with pytest.raises(InputError, match="no query has a positive in the gallery"):
        score_lists([np.array([[0]])], ["a"], ["b"], ["c"], ["d"])
