"""Cells and their file: undefined ones are not ranked, and the file gives back what was written."""

import numpy as np
import pytest
import torch

from switchablecompat.errors import InputError
from switchablecompat.evaluation import cells as cells_module
from switchablecompat.evaluation.cells import QueryResults, rank_cells
from switchablecompat.evaluation.grid import grid_from_cells
from switchablecompat.evaluation.ranking import ProtocolMatches
from switchablecompat.evaluation.task import RetrievalTask


@pytest.fixture
def task():
    """Two sub-models, six queries of camera 0 (the last without a match), five gallery items of camera 1."""
    matches = ProtocolMatches(torch.arange(6), torch.arange(5), torch.zeros(6), torch.ones(5))
    return RetrievalTask((0.5, 1.0), [*torch.randn(2, 6, 4)], [*torch.randn(2, 5, 4)], matches, undefined={(1, 1)})


def test_undefined_cells_are_not_even_ranked(task, monkeypatch):
    calls = []
    original = cells_module.rank_matches
    monkeypatch.setattr(cells_module, "rank_matches", lambda *a, **k: (calls.append(1), original(*a, **k))[1])
    cells = rank_cells(task)
    assert len(calls) == 3
    assert cells[1][1] is None
    assert grid_from_cells(cells, (0.5, 1.0), "toy").values["mINP"][1][1] is None


def test_the_file_gives_back_what_was_written(task, tmp_path):
    cells = rank_cells(task)
    QueryResults.from_cells(cells, (0.5, 1.0), "sha256:x").write(tmp_path / "new" / "queries.npz")
    found = QueryResults.read(tmp_path / "new" / "queries.npz")
    assert found.family == "sha256:x"
    assert found.widths.tolist() == [0.5, 1.0]
    assert found.defined.tolist() == [[True, True], [True, False]]
    for q, g in ((0, 0), (0, 1), (1, 0)):
        assert (found.first_hit_rank[q, g] == cells[q][g].first_hit_rank).all()
        np.testing.assert_array_equal(found.average_precision[q, g], cells[q][g].average_precision)
        assert found.first_hit_rank[q, g][-1] == 0
        assert np.isnan(found.average_precision[q, g][-1])
    assert (found.first_hit_rank[1, 1] == 0).all()
    assert np.isnan(found.average_precision[1, 1]).all()


def test_other_files_are_refused_in_one_line(tmp_path):
    text, foreign, later = tmp_path / "text.npz", tmp_path / "foreign.npz", tmp_path / "later.npz"
    text.write_text("no archive")
    np.savez(foreign, a=1)
    np.savez(later, format=2)
    for path in (text, foreign, tmp_path / "none.npz"):
        with pytest.raises(InputError, match=f"{path.name}: must be a queries.npz of cross_test"):
            QueryResults.read(path)
    with pytest.raises(InputError, match=r"later.npz: must have format 1, found 2"):
        QueryResults.read(later)


def curve_of(ranks, length):
    ranks = np.array(ranks)[None, None]
    return QueryResults(np.ones(1), np.ones((1, 1), bool), ranks, ranks / 1).cmc((0, 0), length)


def test_cmc_by_hand():
    # Four valid queries: hits at 1, 1, 3 and 7; the fifth has no match.
    assert curve_of([1, 3, 1, 7, 0], 5).tolist() == [50.0, 50.0, 75.0, 75.0, 75.0]


def test_every_rank_of_cmc_is_the_share_of_queries_that_have_hit():
    ranks = np.random.default_rng(0).integers(0, 40, size=300)
    valid = [rank for rank in ranks if rank]
    expected = [100 * sum(rank <= k for rank in valid) / len(valid) for k in range(1, 31)]
    np.testing.assert_allclose(curve_of(ranks, 30), expected, rtol=1e-14)
