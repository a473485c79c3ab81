"""Cells and their file: undefined ones are not ranked, and the file gives back what was written."""

import numpy as np
import pytest
import torch

from switchablecompat.errors import InputError
from switchablecompat.evaluation import cells as cells_module
from switchablecompat.evaluation.cells import QueryResults, rank_cells
from switchablecompat.evaluation.grid import grid_from_cells


@pytest.fixture
def features():
    """Two sub-models, six queries of camera 0 (the last without a match), five gallery items of camera 1."""
    query, gallery = torch.randn(2, 6, 4), torch.randn(2, 5, 4)
    labels = (torch.arange(6), torch.arange(5), torch.zeros(6), torch.ones(5))
    return [*query], [*gallery], *labels


def test_undefined_cells_are_not_even_ranked(features, monkeypatch):
    calls = []
    original = cells_module.rank_matches
    monkeypatch.setattr(cells_module, "rank_matches", lambda *a, **k: (calls.append(1), original(*a, **k))[1])
    cells = rank_cells(*features, (0.5, 1.0), undefined={(1, 1)})
    assert len(calls) == 3
    assert cells[1][1] is None
    assert grid_from_cells(cells, (0.5, 1.0), "toy").values["mINP"][1][1] is None


def test_the_file_gives_back_what_was_written(features, tmp_path):
    cells = rank_cells(*features, (0.5, 1.0), undefined={(1, 1)})
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


def test_other_files_are_refused_in_one_line(features, tmp_path):
    text, foreign, later = tmp_path / "text.npz", tmp_path / "foreign.npz", tmp_path / "later.npz"
    text.write_text("no archive")
    np.savez(foreign, a=1)
    np.savez(later, format=2)
    for path in (text, foreign, tmp_path / "none.npz"):
        with pytest.raises(InputError, match=f"{path.name}: must be a queries.npz of cross_test"):
            QueryResults.read(path)
    with pytest.raises(InputError, match=r"later.npz: must have format 1, found 2"):
        QueryResults.read(later)
