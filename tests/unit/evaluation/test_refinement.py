"""AQE and re-ranking of a cell against FastReID's functions on the same features, and by hand."""

import tracemalloc

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from fastreid.config import get_cfg
from fastreid.evaluation.query_expansion import aqe
from fastreid.utils.compute_dist import compute_jaccard_distance

from fastreid_evaluator import CPU_SEARCH, fastreid_results
from switchablecompat.evaluation.cells import rank_cells
from switchablecompat.evaluation.neighbours import cell_neighbours, nearest
from switchablecompat.evaluation.query_expansion import QueryExpansion, expand
from switchablecompat.evaluation.ranking import ProtocolMatches
from switchablecompat.evaluation.refinement import Refinement, refine_cells
from switchablecompat.evaluation.reranking import JaccardDistance, ReRanking, reciprocal_vectors
from switchablecompat.evaluation.task import RetrievalTask


def two_submodels(num_query=30, num_gallery=120, pids=12, dim=16, noise=0.9):
    """Queries and gallery as two sub-models of one space see them: common centres, noise of their own."""
    pid = torch.arange(num_query + num_gallery) % pids
    camid = torch.arange(num_query + num_gallery) // pids % 3
    centres, shared = torch.randn(pids, dim), torch.randn(len(pid), dim)
    features = [F.normalize(centres[pid] + noise * (shared + own * torch.randn(len(pid), dim))) for own in (0.3, 0.6)]
    return features, pid, camid, num_query


def split(features, num_query):
    return features[:num_query].contiguous(), features[num_query:].contiguous()


def task_of(members, pid, camid, n, undefined=()):
    return RetrievalTask.of_images([0.5, 1.0], members, (pid, camid), slice(n), slice(n, None), undefined=undefined)


def neighbours_of(query, gallery, k):
    return cell_neighbours(query, gallery, k, nearest(query, query, k), nearest(gallery, gallery, k))


@pytest.mark.parametrize(("num_query", "num_gallery", "k"), [(20, 50, 6), (3, 40, 10), (40, 3, 10), (4, 5, 20)])
def test_neighbours_are_those_of_a_full_sort_over_both_sides(num_query, num_gallery, k):
    query, gallery = F.normalize(torch.randn(num_query, 8)), F.normalize(torch.randn(num_gallery, 8))
    found = neighbours_of(query, gallery, k)
    together = torch.cat([query, gallery]).double()
    similarity, index = (together @ together.T).sort(dim=1, descending=True)
    k = min(k, num_query + num_gallery)
    np.testing.assert_array_equal(found.index, index[:, :k])
    np.testing.assert_allclose(found.similarity, similarity[:, :k], atol=1e-6)  # float32 products


@pytest.mark.parametrize(("k", "times", "alpha"), [(5, 1, 3.0), (10, 1, 1.0), (4, 3, 3.0)])
@pytest.mark.parametrize("block_bytes", [1, 2**26])
def test_expansion_is_fastreids(k, times, alpha, block_bytes):
    (one, other), _, _, n = two_submodels()
    query, gallery = split(one, n)[0], split(other, n)[1]
    options = QueryExpansion(k, times, alpha)
    found = expand(torch.cat([query, gallery]), neighbours_of(query, gallery, k), options, block_bytes=block_bytes)
    expected = F.normalize(torch.cat(aqe(query, gallery, times, k, alpha)))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    assert (found - torch.cat([query, gallery])).abs().max() > 0.1


def test_a_negative_neighbour_pushes_whatever_the_power():
    features = torch.tensor([[1.0, 0.0], [-0.6, 0.8]])
    neighbours = nearest(features, features, 2)
    expected = features - 0.6**0.5 * features.flip(0)
    found = expand(features, neighbours, QueryExpansion(2, 1, 0.5), block_bytes=2**20)
    torch.testing.assert_close(found, F.normalize(expected))


@pytest.mark.parametrize(("k1", "k2"), [(20, 6), (7, 1), (5, 5), (1, 1), (2, 2)])
@pytest.mark.parametrize("block_bytes", [1, 20_000, 2**26])
def test_jaccard_distances_are_fastreids(k1, k2, block_bytes):
    (one, other), _, _, n = two_submodels()
    query, gallery = split(one, n)[0], split(other, n)[1]
    together = torch.cat([query, gallery])
    neighbours = neighbours_of(query, gallery, k1).index
    jaccard = JaccardDistance(reciprocal_vectors(together.numpy(), neighbours, k2, block_bytes=block_bytes), n)
    found = np.concatenate([jaccard.rows(0, 7), jaccard.rows(7, n)])
    expected = compute_jaccard_distance(together, k1, k2, search_option=CPU_SEARCH)[:n, n:]
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert k1 < 5 or found.min() < 0.5 < found.max()


def test_reciprocal_neighbours_worked_out_by_hand():
    """On a line at 0, 1, 3 (k1 = 2): 0 and 1 choose each other, 3 chooses 1, which does not choose it."""
    neighbours = np.array([[0, 1], [1, 0], [2, 1]])
    angles = np.deg2rad([0.0, 1.0, 3.0])
    features = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    vectors = reciprocal_vectors(features, neighbours, 1, block_bytes=2**20).toarray()
    near = np.exp(-(2 - 2 * np.cos(np.deg2rad(1.0))))
    expected = np.array([[1, near, 0], [near, 1, 0], [0, 0, 1 + near]]) / (1 + near)
    np.testing.assert_allclose(vectors, expected, atol=1e-6)


def fastreids_results(features, pid, camid, n, *opts):
    cfg = get_cfg()
    cfg.merge_from_list(list(opts))
    return fastreid_results(cfg, features, pid, camid, n)


REFINEMENTS = {
    "aqe": (Refinement(QueryExpansion(5, 1, 3.0), None), ["TEST.AQE.ENABLED", True]),
    "rerank": (Refinement(None, ReRanking(12, 4, 0.3)), ["TEST.RERANK.ENABLED", True]),
    "both": (
        Refinement(QueryExpansion(5, 1, 3.0), ReRanking(12, 4, 0.3)),
        ["TEST.AQE.ENABLED", True, "TEST.RERANK.ENABLED", True],
    ),
}


@pytest.mark.parametrize("name", REFINEMENTS)
def test_every_cell_is_fastreids_evaluator_on_the_features_that_it_mixes(name):
    refinement, opts = REFINEMENTS[name]
    members, pid, camid, n = two_submodels(noise=1.6)
    query, gallery = zip(*(split(features, n) for features in members), strict=True)
    cells = refine_cells(task_of(members, pid, camid, n), refinement)
    for q in range(2):
        for g in range(2):
            mixed = torch.cat([query[q], gallery[g]])
            expected = fastreids_results(mixed, pid, camid, n, *opts, "TEST.RERANK.K1", 12, "TEST.RERANK.K2", 4)
            found = cells[q][g]
            for key, value in {"mAP": found.mAP, "mINP": found.mINP, "Rank-1": found.rank_k(1)}.items():
                assert value == pytest.approx(expected[key], abs=1e-4), (q, g, key)  # FastReID's means are float32
            assert found.mAP < 99


def test_the_original_distance_alone_is_the_plain_ranking_and_re_ranking_pays_on_clusters():
    task = task_of(*two_submodels())
    plain = rank_cells(task)
    unchanged = refine_cells(task, Refinement(None, ReRanking(12, 4, 1.0)))
    better = refine_cells(task, Refinement(None, ReRanking(12, 4, 0.3)))
    for q in range(2):
        for g in range(2):
            np.testing.assert_array_equal(unchanged[q][g].first_hit_rank, plain[q][g].first_hit_rank)
            assert better[q][g].mAP > plain[q][g].mAP + 3


def test_undefined_cells_stay_undefined():
    cells = refine_cells(task_of(*two_submodels(), undefined={(1, 1)}), REFINEMENTS["aqe"][0])
    assert [[cell is None for cell in row] for row in cells] == [[False, False], [False, True]]


@pytest.mark.parametrize("name", REFINEMENTS)
def test_memory_grows_with_the_images_and_not_with_their_square(name):
    peaks = []
    for number in (1500, 6000):
        features = F.normalize(torch.randn(number, 8))
        pid = torch.arange(number) % 100
        matches = ProtocolMatches(pid[:100], pid[100:], [0] * 100, [1] * (number - 100))
        task = RetrievalTask([1.0], [features[:100]], [features[100:]], matches, block_bytes=2**18)
        tracemalloc.start()
        refine_cells(task, REFINEMENTS[name][0])
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 5 * peaks[0]  # four times the images
    assert peaks[1] < 6000**2 * 4 / 4  # one matrix of FastReID's would be four times as much
