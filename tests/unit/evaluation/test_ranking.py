"""Ranking against FastReID, against a naive stable sort, and against numbers worked out by hand."""

import tracemalloc

import numpy as np
import pytest
import torch
from fastreid.evaluation.rank import evaluate_rank
from hypothesis import given, settings
from hypothesis import strategies as st

from switchablecompat.errors import InputError
from switchablecompat.evaluation.ranking import RankingResult, rank_queries


def naive(query, gallery, query_pids, gallery_pids, query_camids, gallery_camids):
    """Straight from the definitions: one stable sort per query. Returns AP, INP, first hit (NaN, NaN, 0 if invalid)."""
    rows = []
    similarity = query.numpy() @ gallery.numpy().T
    for scores, pid, camid in zip(similarity, query_pids, query_camids, strict=True):
        kept = np.flatnonzero(~((gallery_pids == pid) & (gallery_camids == camid)))
        order = kept[np.argsort(-scores[kept], kind="stable")]
        ranks = np.flatnonzero(gallery_pids[order] == pid) + 1
        if len(ranks):
            rows.append((np.mean(np.arange(1, len(ranks) + 1) / ranks), len(ranks) / ranks[-1], ranks[0]))
        else:
            rows.append((np.nan, np.nan, 0))
    return [np.array(column) for column in zip(*rows, strict=True)]


def labels(rng, num_queries, num_gallery, *, pids, cams):
    return (
        rng.integers(pids, size=num_queries),
        rng.integers(pids, size=num_gallery),
        rng.integers(cams, size=num_queries),
        rng.integers(cams, size=num_gallery),
    )


def clustered(rng, num_queries=80, num_gallery=500, *, pids=30, cams=3, dim=32, noise=1.2):
    """Noisy clusters, some queries invalid since ``pids`` of the query side start lower than those of the gallery."""
    query_pids, gallery_pids, query_camids, gallery_camids = labels(rng, num_queries, num_gallery, pids=pids, cams=cams)
    centres = rng.standard_normal((pids + 3, dim))
    gallery_pids = gallery_pids + 3
    features = [
        torch.nn.functional.normalize(torch.tensor(centres[p] + noise * rng.standard_normal((len(p), dim))).float())
        for p in (query_pids, gallery_pids)
    ]
    return *features, query_pids, gallery_pids, query_camids, gallery_camids


def assert_same(result: RankingResult, other: RankingResult):
    """Identical, not merely close: used where the arithmetic is exact."""
    for name in ("average_precision", "inverse_negative_penalty", "first_hit_rank", "valid"):
        np.testing.assert_array_equal(getattr(result, name), getattr(other, name), err_msg=name)


@pytest.mark.parametrize("seed", range(4))
def test_agrees_with_fastreid(seed):
    query, gallery, *rest = clustered(np.random.default_rng(seed))
    result = rank_queries(query, gallery, *rest)
    cmc, average_precision, inverse_penalty = evaluate_rank(-(query @ gallery.T).numpy(), *rest, use_cython=False)
    # Same float32 similarities, same definitions in float64; FastReID averages the CMC in float32.
    assert 0 < result.valid.sum() < len(query)
    np.testing.assert_allclose(result.average_precision[result.valid], average_precision, rtol=0, atol=1e-12)
    np.testing.assert_allclose(result.inverse_negative_penalty[result.valid], inverse_penalty, rtol=0, atol=1e-12)
    np.testing.assert_allclose([result.rank_k(k) / 100 for k in range(1, 51)], cmc, rtol=0, atol=1e-6)
    assert result.mAP == pytest.approx(100 * np.mean(average_precision), abs=1e-6)
    assert result.mINP == pytest.approx(100 * np.mean(inverse_penalty), abs=1e-6)


@settings(max_examples=200, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    num_queries=st.integers(1, 12),
    num_gallery=st.integers(1, 40),
    pids=st.integers(1, 6),
    cams=st.integers(1, 3),
    spread=st.integers(0, 2),
    block_bytes=st.sampled_from([1, 500, 3000, 2**20]),
)
def test_agrees_with_a_stable_sort_when_scores_tie(seed, num_queries, num_gallery, pids, cams, spread, block_bytes):
    rng = np.random.default_rng(seed)
    # Integers of -2..2: exact in float32, and so few that most scores tie. A spread of 0 makes all features constant.
    query, gallery = (
        torch.from_numpy(rng.integers(-spread, spread + 1, size=(size, 2))).float()
        for size in (num_queries, num_gallery)
    )
    rest = labels(rng, num_queries, num_gallery, pids=pids, cams=cams)
    average_precision, inverse_penalty, first_hit = naive(query, gallery, *rest)
    if not first_hit.any():
        with pytest.raises(InputError, match="no query has a positive"):
            rank_queries(query, gallery, *rest, block_bytes=block_bytes)
        return
    result = rank_queries(query, gallery, *rest, block_bytes=block_bytes)
    np.testing.assert_allclose(result.average_precision, average_precision, rtol=1e-12)
    np.testing.assert_allclose(result.inverse_negative_penalty, inverse_penalty, rtol=1e-12)
    np.testing.assert_array_equal(result.first_hit_rank, first_hit)
    np.testing.assert_array_equal(result.valid, first_hit > 0)


# One query of identity 1; the scores of the gallery fall from the left. Positives at the given places.
@pytest.mark.parametrize(
    ("places", "average_precision", "inverse_penalty", "first"),
    [
        ([0], 1, 1, 1),
        ([0, 1, 2], 1, 1, 1),
        ([1], 1 / 2, 1 / 2, 2),
        ([0, 2, 5], (1 / 1 + 2 / 3 + 3 / 6) / 3, 3 / 6, 1),
        ([3, 4], (1 / 4 + 2 / 5) / 2, 2 / 5, 4),
        ([9], 1 / 10, 1 / 10, 10),
    ],
)
def test_planted_errors_give_the_fractions_worked_out_by_hand(places, average_precision, inverse_penalty, first):
    gallery = torch.linspace(1, 0.1, 10)[:, None]
    pids = np.where(np.isin(np.arange(10), places), 1, 2)
    result = rank_queries(torch.ones(1, 1), gallery, [1], pids, [0], np.ones(10, int))
    assert result.mAP == pytest.approx(100 * average_precision, abs=1e-12)
    assert result.mINP == pytest.approx(100 * inverse_penalty, abs=1e-12)
    assert result.first_hit_rank.tolist() == [first]
    assert [result.rank_k(k) for k in (1, 5, 10)] == [100.0 * (first <= k) for k in (1, 5, 10)]


def test_junk_leaves_the_ranking():
    gallery = torch.linspace(1, 0.1, 5)[:, None]
    # Best two: same identity, same camera. Third: another identity, same camera. Then a positive and a distractor.
    result = rank_queries(torch.ones(1, 1), gallery, [1], [1, 1, 2, 1, 3], [0], [0, 0, 0, 1, 0])
    assert result.first_hit_rank.tolist() == [2]
    assert result.mAP == 50.0


@pytest.mark.parametrize(("pids", "rank"), [([1, 2, 2], 1), ([2, 1, 2], 2), ([2, 2, 1], 3)])
def test_constant_features_rank_by_gallery_order(pids, rank):
    result = rank_queries(torch.ones(1, 4), torch.ones(3, 4), [1], pids, [0], [1, 1, 1])
    assert result.first_hit_rank.tolist() == [rank]


def test_neighbouring_floats_are_told_apart_whatever_their_gallery_index():
    below_one = np.nextafter(np.float32(1), np.float32(0))
    gallery = torch.tensor([[below_one], [0.0], [1.0]])
    assert rank_queries(torch.ones(1, 1), gallery, [1], [1, 2, 2], [0], [1, 1, 1]).first_hit_rank.tolist() == [2]


def test_a_positive_never_outranks_itself():
    """A perfect gallery of near-equal scores: a score computed anew that differed in a bit would break the 100 %."""
    query = torch.nn.functional.normalize(torch.randn(64, 512))
    gallery = query.repeat(3, 1)
    pids = np.arange(64)
    result = rank_queries(query, gallery, pids, np.tile(pids, 3), np.zeros(64), np.ones(192), block_bytes=2**16)
    assert (result.mAP, result.mINP, result.rank_k(1)) == (100.0, 100.0, 100.0)


@pytest.mark.parametrize("block_bytes", [1, 10_000, 200_000])
def test_blocks_change_nothing(block_bytes):
    rng = np.random.default_rng(0)
    # Integers: sums are exact whatever the shape of the product.
    query, gallery = (torch.from_numpy(rng.integers(-9, 10, size=(size, 8))).float() for size in (60, 300))
    rest = labels(rng, 60, 300, pids=20, cams=2)
    whole = rank_queries(query, gallery, *rest, block_bytes=2**40)
    assert_same(rank_queries(query, gallery, *rest, block_bytes=block_bytes), whole)


def test_extra_memory_is_bounded_and_does_not_grow_with_the_queries(monkeypatch):
    block_bytes, peaks, products = 2**20, [], []
    product = torch.mm
    monkeypatch.setattr(torch, "mm", lambda a, b, out: products.append(out.nbytes) or product(a, b, out=out))
    for num_queries in (200, 1600):
        query, gallery = torch.ones(num_queries, 4), torch.ones(2000, 4)  # all tie: everything survives, the worst case
        rest = labels(np.random.default_rng(0), num_queries, 2000, pids=40, cams=2)
        tracemalloc.start()
        rank_queries(query, gallery, *rest, block_bytes=block_bytes)
        peaks.append(tracemalloc.get_traced_memory()[1] + max(products))
        tracemalloc.stop()
    labels_and_results = 100 * 3600  # bytes; grows with Nq + Ng only
    assert max(peaks) < block_bytes + labels_and_results
    similarities_of_all_pairs = 1600 * 2000 * 4
    assert similarities_of_all_pairs > 10 * block_bytes


@pytest.mark.parametrize("size", [1, 4])
def test_a_gallery_smaller_than_k_saturates(size):
    pids = np.arange(size)
    result = rank_queries(torch.eye(size), torch.eye(size).flip(0), pids, pids, np.zeros(size), np.ones(size))
    assert result.rank_k(size) == result.rank_k(10) == 100.0
    with pytest.raises(InputError, match="k: must be at least 1"):
        result.rank_k(0)


def test_invalid_queries_are_left_out_of_the_means():
    result = rank_queries(torch.ones(3, 1), torch.ones(2, 1), [1, 7, 2], [1, 2], [0, 0, 0], [1, 0])
    assert result.valid.tolist() == [True, False, False]  # unknown identity; only junk
    assert result.valid.sum() == 1
    assert np.isnan(result.average_precision[1:]).all()
    assert result.first_hit_rank.tolist() == [1, 0, 0]
    assert result.mAP == 100.0


@pytest.mark.parametrize(
    ("query_pids", "query_camids", "match"),
    [([7, 8], [0, 0], "no query identity appears in the gallery"), ([1, 2], [1, 1], "set distinct camera ids")],
)
def test_no_valid_query_names_the_likely_cause(query_pids, query_camids, match):
    with pytest.raises(InputError, match=match):
        rank_queries(torch.ones(2, 1), torch.ones(2, 1), query_pids, [1, 2], query_camids, [1, 1])


@pytest.mark.parametrize("empty", ["query", "gallery"])
def test_an_empty_side_is_an_input_error(empty):
    sizes = {"query": 2, "gallery": 2, empty: 0}
    q, g = sizes["query"], sizes["gallery"]
    with pytest.raises(InputError, match="no query has a positive"):
        rank_queries(torch.ones(q, 3), torch.ones(g, 3), [0] * q, [0] * g, [0] * q, [1] * g)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("side", ["query", "gallery"])
def test_features_that_are_not_finite_are_refused(side, value):
    features = {"query": torch.ones(4, 3), "gallery": torch.ones(4, 3)}
    features[side][2, 1] = value
    with pytest.raises(InputError, match=f"{side} features: must be finite.* in row 2"):
        rank_queries(features["query"], features["gallery"], range(4), range(4), [0] * 4, [1] * 4)


@pytest.mark.parametrize(
    ("query", "query_camids", "match"),
    [
        (torch.ones(3, 3), [0, 0], r"query features: must have the shape \[2, D\], found \[3, 3\]"),
        (torch.ones(2), [0, 0], r"query features: must have the shape"),
        (torch.ones(2, 4), [0, 0], "must have the same dimension, found 4 and 3"),
        (torch.ones(2, 3).double(), [0, 0], "query features: must be float32"),
        (torch.ones(2, 3), [0], r"query camids: must be as many as the query pids \(2\), found 1"),
    ],
)
def test_shapes_that_disagree_are_refused(query, query_camids, match):
    with pytest.raises(InputError, match=match):
        rank_queries(query, torch.ones(2, 3), [1, 2], [1, 2], query_camids, [1, 1])


def test_labels_may_be_tensors_or_names():
    query, gallery, *rest = clustered(np.random.default_rng(0))
    expected = rank_queries(query, gallery, *rest)
    assert_same(rank_queries(query, gallery, *map(torch.from_numpy, rest)), expected)
    assert_same(rank_queries(query, gallery, *([f"id {label}" for label in part] for part in rest)), expected)


def test_inputs_are_untouched_and_gradients_not_tracked():
    query, gallery, *rest = clustered(np.random.default_rng(0))
    copies = query.clone(), gallery.clone(), *(part.copy() for part in rest)
    rank_queries(query.requires_grad_(), gallery, *rest)
    assert torch.equal(query, copies[0])
    assert torch.equal(gallery, copies[1])
    for part, copy in zip(rest, copies[2:], strict=True):
        np.testing.assert_array_equal(part, copy)
