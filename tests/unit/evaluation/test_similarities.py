"""Counts of pairs against a loop over all of them, on scores that lie on the edges and between them."""

import tracemalloc
from fractions import Fraction

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from switchablecompat.errors import InputError
from switchablecompat.evaluation import similarities
from switchablecompat.evaluation.ranking import ProtocolMatches
from switchablecompat.evaluation.similarities import STEPS, SimilarityCounts, count_similarities

# Steps at which to compare counts: all multiples of 1/16 (dyadic scores lie on them), and what is next to them.
THRESHOLDS = sorted({k + d for k in range(-STEPS, STEPS + 1, 625) for d in (-1, 0, 1) if abs(k + d) <= STEPS})


def labels(rng, num_queries=20, num_gallery=60):
    """Few identities and cameras: every kind of pair occurs."""
    return [rng.integers(high, size=size) for high in (5, 3) for size in (num_queries, num_gallery)]


def pairs_one_by_one(query, gallery, query_pids, gallery_pids, query_camids, gallery_camids):
    """Genuine and impostor scores by definition."""
    similarity = (query @ gallery.T).numpy()
    found = {True: [], False: []}
    for q in range(len(query)):
        for g in range(len(gallery)):
            same = bool(query_pids[q] == gallery_pids[g])
            if not (same and query_camids[q] == gallery_camids[g]):
                found[same].append(float(similarity[q, g]))
    return np.array(found[True]), np.array(found[False])


def assert_counts(counts, genuine, impostor):
    assert (counts.num_genuine, counts.num_impostor) == (len(genuine), len(impostor))
    for k in THRESHOLDS:
        at = Fraction(k, STEPS)
        for side, scores in ((counts.genuine, genuine), (counts.impostor, impostor)):
            assert side[k + STEPS :].sum() == sum(Fraction(score) >= at for score in scores), k


@pytest.mark.parametrize("block_bytes", [1, 5000, 2**20])
def test_scores_on_the_edges(block_bytes):
    rng = np.random.default_rng(1)
    # Entries of 0, +-1/4, +-1/2 in four dimensions: products are multiples of 1/16, exact, and reach -1 and 1.
    query, gallery = (torch.from_numpy(rng.integers(-2, 3, size=(n, 4))).float() / 4 for n in (20, 60))
    qp, gp, qc, gc = labels(rng)
    counts = count_similarities(query, gallery, ProtocolMatches(qp, gp, qc, gc), block_bytes=block_bytes)
    assert_counts(counts, *pairs_one_by_one(query, gallery, qp, gp, qc, gc))


def test_scores_between_the_edges():
    rng = np.random.default_rng(2)
    query, gallery = (F.normalize(torch.from_numpy(rng.standard_normal((n, 8))).float()) for n in (20, 60))
    qp, gp, qc, gc = labels(rng)
    counts = count_similarities(query, gallery, ProtocolMatches(qp, gp, qc, gc))
    assert_counts(counts, *pairs_one_by_one(query, gallery, qp, gp, qc, gc))


def test_steps_are_exact_beside_every_edge():
    edges = (np.arange(-STEPS, STEPS + 1) / STEPS).astype(np.float32)
    scores = np.concatenate([edges, np.nextafter(edges, np.float32(2)), np.nextafter(edges, np.float32(-2))])
    exact = [int(Fraction(float(score)) * STEPS // 1) for score in scores]
    np.testing.assert_array_equal(similarities._steps(scores), np.clip(exact, -STEPS, STEPS) + STEPS)


def test_counts_of_two_cells_add_up():
    one = SimilarityCounts(np.eye(1, 2 * STEPS + 1, 3, dtype=int)[0], np.zeros(2 * STEPS + 1, dtype=int))
    two = one + one
    assert (two.genuine[3], two.num_genuine, two.num_impostor) == (2, 2, 0)


def test_histogram_gathers_whole_bins():
    genuine = np.zeros(2 * STEPS + 1, dtype=np.int64)
    genuine[[0, 199, 200, 2 * STEPS]] = 1, 2, 4, 8  # -1, just below -0.98, -0.98, and 1
    edges, found, impostor = SimilarityCounts(genuine, 2 * genuine).histogram(200)
    assert edges[[0, 1, 50, -1]].tolist() == [-1.0, -0.98, 0.0, 1.0]
    assert found[[0, 1, -1]].tolist() == [3, 4, 8]
    assert found.sum() == 15
    np.testing.assert_array_equal(impostor, 2 * found)


def test_memory_does_not_grow_with_the_number_of_queries():
    peaks = []
    for num_queries in (200, 2000):
        query, gallery = F.normalize(torch.randn(num_queries, 4)), F.normalize(torch.randn(500, 4))
        pids, camids = torch.arange(num_queries) % 50, torch.zeros(num_queries)
        matches = ProtocolMatches(pids, torch.arange(500) % 50, camids, torch.ones(500))
        tracemalloc.start()
        count_similarities(query, gallery, matches, block_bytes=2**20)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.1 * peaks[0]
    assert peaks[1] < 2 * 2**20  # the block, and four vectors of counts


def test_features_that_do_not_fit_are_refused():
    matches = ProtocolMatches([0, 1], [0, 1, 2], [0, 0], [1, 1, 1])
    with pytest.raises(InputError, match=r"must have the shapes \[\(2, 4\), \(3, 4\)\], found \[\(2, 4\), \(3, 5\)\]"):
        count_similarities(torch.zeros(2, 4), torch.zeros(3, 5), matches)
