"""The grid as a value: criterion, summary, JSON, and its cells against single rankings."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from switchablecompat.errors import InputError
from switchablecompat.evaluation.evaluator import evaluate_task
from switchablecompat.evaluation.grid import METRICS, CompatibilityGrid
from switchablecompat.evaluation.ranking import ProtocolMatches, rank_queries
from switchablecompat.evaluation.task import RetrievalTask

# Chen et al.'s Market-1501 table: the method 'Ours' (all pass), and the separately trained 'Asymmetric' (none passes).
OURS = (
    (58.19, 62.88, 63.48, 69.43),
    (61.24, 70.74, 71.37, 76.37),
    (62.43, 71.25, 72.06, 77.26),
    (68.03, 74.76, 75.67, 81.43),
)
ASYMMETRIC = (
    (55.83, 50.85, 53.71, 55.39),
    (52.66, 67.04, 62.08, 66.59),
    (54.48, 62.33, 66.33, 70.14),
    (56.08, 66.66, 69.71, None),
)
WIDTHS = (0.25, 0.5, 0.75, 1.0)


def grid_of(matrix, widths=None, **metadata):
    return CompatibilityGrid(widths or WIDTHS[-len(matrix) :], {"mAP": matrix}, "Market-1501", metadata)


def grid_from_features(query, gallery, labels, widths=WIDTHS[1:], **options):
    return evaluate_task(RetrievalTask(widths, query, gallery, ProtocolMatches(*labels), "toy", **options))[0]


@pytest.fixture
def features():
    """Three 'sub-models' of integer features, thus exact; later ones are less noisy."""
    rng = np.random.default_rng(0)
    centres = rng.integers(-9, 10, size=(8, 6))
    pids, camids = rng.integers(8, size=70), rng.integers(3, size=70)
    widths = [torch.from_numpy(centres[pids] + rng.integers(-n, n + 1, size=(70, 6))).float() for n in (12, 8, 4)]
    return [f[:20] for f in widths], [f[20:] for f in widths], pids[:20], pids[20:], camids[:20], camids[20:]


def test_rows_are_queries_and_columns_are_galleries():
    grid = grid_of(OURS)
    assert grid[0, 3] == 69.43  # query w025 on gallery w100, as the paper prints it
    assert grid.self_tests() == (58.19, 70.74, 72.06, 81.43)
    assert grid.cross_tests()[3, 0] == 68.03
    assert len(grid.cross_tests()) == 12


@pytest.mark.parametrize(
    ("cross", "passes"),
    [(50.001, True), (50.0, False), (49.0, False), (70.0, True), (None, None)],
)
def test_the_criterion_is_strict_and_against_the_weaker_self_test(cross, passes):
    grid = grid_of([[50.0, cross], [None, 60.0]])
    assert grid.failed_cells() == ([(0, 1)] if passes is False else [])
    expected = {True: 100.0, False: 0.0, None: None}[passes]
    assert grid.compatibility()["AC"] == expected


def test_summary_of_the_papers_table():
    summary = grid_of(OURS).compatibility()
    assert summary["AC"] == 100.0
    assert summary["failed_cells"] == []
    assert summary["AM"] == pytest.approx(np.mean(OURS), abs=1e-12)
    assert summary["mean_self"] == pytest.approx(np.trace(OURS) / 4, abs=1e-12)
    assert summary["mean_cross"] == pytest.approx((np.sum(OURS) - np.trace(OURS)) / 12, abs=1e-12)


def test_cells_that_miss_a_value_are_skipped():
    grid = grid_of(ASYMMETRIC)
    assert grid.failed_cells() == [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)]  # none that involves w100
    summary = grid.compatibility()
    assert (summary["AC"], summary["judged_cells"]) == (0.0, 6)
    assert summary["AM"] == pytest.approx(np.mean([v for row in ASYMMETRIC for v in row if v is not None]), abs=1e-12)


def test_summary_without_cross_tests_or_values():
    assert grid_of([[80.0]]).compatibility() == {
        "AC": None, "AM": 80.0, "failed_cells": [], "mean_cross": None, "mean_self": 80.0, "judged_cells": 0,
    }  # fmt: skip
    assert grid_of([[None] * 2] * 2).compatibility()["AM"] is None


def test_verdict_names_the_worst_cell_and_its_shortfall():
    verdict = grid_of(ASYMMETRIC).verdict()
    assert "Self-tests (mAP): w025 55.83, w050 67.04, w075 66.33, w100 -." in verdict
    assert "0 of 6 pass" in verdict
    assert "6 not judged" in verdict
    assert "query w025 on gallery w050 reaches 50.85, 4.98 below the 55.83 to beat" in verdict
    assert grid_of(OURS).verdict().endswith("12 of 12 pass (better than the weaker of the two self-tests).")
    assert "No cross-test can be judged" in grid_of([[80.0]]).verdict()


@st.composite
def matrices(draw):
    """Of one to five sub-models; few values, so that cells tie with the bar, and some that are not defined."""
    m = draw(st.integers(1, 5))
    cell = st.one_of(st.none(), st.sampled_from([0.0, 25.0, 50.0, 62.5, 100.0]), st.floats(0, 100))
    return draw(st.lists(st.lists(cell, min_size=m, max_size=m), min_size=m, max_size=m))


@given(matrix=matrices())
def test_any_grid_is_judged_as_the_definition_says_and_alike_in_both_roles(matrix):
    m = len(matrix)
    grid = CompatibilityGrid([(i + 1) / m for i in range(m)], {"mAP": matrix})
    judged, failed = [], []
    for q in range(m):
        for g in range(m):
            if q != g and None not in (matrix[q][g], matrix[q][q], matrix[g][g]):
                judged.append((q, g))
                if not (matrix[q][g] > matrix[q][q] or matrix[q][g] > matrix[g][g]):
                    failed.append((q, g))
    summary = grid.compatibility()
    assert grid.failed_cells() == failed
    assert summary["judged_cells"] == len(judged)
    assert summary["AC"] == (pytest.approx(100 - 100 * len(failed) / len(judged)) if judged else None)
    swapped = CompatibilityGrid(grid.widths, {"mAP": [*zip(*matrix, strict=True)]})
    assert sorted((g, q) for q, g in swapped.failed_cells()) == failed
    other = swapped.compatibility()
    assert other["AC"] == summary["AC"]
    assert other["AM"] == pytest.approx(summary["AM"], abs=1e-9)
    assert all(swapped[g, q] == matrix[q][g] for q in range(m) for g in range(m))
    assert CompatibilityGrid.from_dict(json.loads(json.dumps(grid.to_dict()))) == grid


def test_scalars_are_flat_and_leave_out_undefined_cells():
    scalars = grid_of(ASYMMETRIC).scalars()
    assert scalars["mAP_w025_w100"] == 55.39
    assert "mAP_w100_w100" not in scalars
    assert len(scalars) == 15


def test_json_round_trip_is_exact():
    rng = np.random.default_rng(0)
    values = {metric: rng.uniform(0, 100, size=(4, 4)).tolist() for metric in METRICS}
    values["mINP"][2][1] = None
    metadata = {"method": "sfsc", "seed": np.int64(0), "versions": {"torch": "2"}, "shape": (384, 128), "x": np.ones(2)}
    grid = CompatibilityGrid(np.array(WIDTHS), values, "Market-1501", metadata)
    content = grid.to_dict()
    text = json.dumps(content, allow_nan=False)  # would raise on a NumPy value
    assert json.loads(text) == content
    assert CompatibilityGrid.from_dict(json.loads(text)) == grid
    assert list(content)[:10] == ["format", "dataset", "widths", "rows", "columns", *METRICS]
    assert (content["format"], content["rows"], content["columns"]) == (1, "query", "gallery")
    assert content["compatibility"]["failed_cells"] == [list(cell) for cell in grid.failed_cells()]
    assert (content["method"], content["seed"], content["shape"]) == ("sfsc", 0, [384, 128])


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"format": 2}, "grid: format: must be 1, found 2"),
        ({"rows": "gallery"}, "grid: rows: must be 'query', found 'gallery'"),
        ({"columns": None}, "grid: columns: must be 'gallery', found None"),
        ({"widths": [0.5, 1.0]}, "mAP: must be 2 rows of 2 values"),
    ],
)
def test_a_file_of_another_format_is_refused(change, match):
    with pytest.raises(InputError, match=match):
        CompatibilityGrid.from_dict({**grid_of(OURS).to_dict(), **change})


def test_a_file_without_map_is_refused():
    content = grid_of(OURS).to_dict()
    del content["mAP"]
    with pytest.raises(InputError, match="grid: mAP: must be given"):
        CompatibilityGrid.from_dict(content)


@pytest.mark.parametrize(
    ("widths", "values", "match"),
    [
        ((0.5, 0.25), {"mAP": [[1, 1], [1, 1]]}, "widths: must be ascending"),
        ((0.5, 0.5), {"mAP": [[1, 1], [1, 1]]}, "widths: must be ascending, without repetition"),
        ((0.5, 0.50001), {"mAP": [[1, 1], [1, 1]]}, "widths: must differ within four decimals"),
        ((), {"mAP": []}, "widths: .* at least one"),
        ((0.5, 1.0), {"mAP": [[1, 1]]}, "mAP: must be 2 rows of 2 values"),
        ((0.5, 1.0), {"mAP": [[1, 1], [1]]}, "mAP: must be 2 rows of 2 values"),
        ((1.0,), {"mAP": [[101.0]]}, r"mAP\[0\]\[0\]: must be in \[0, 100\] per cent or None, found 101.0"),
        ((1.0,), {"mAP": [[float("nan")]]}, r"mAP\[0\]\[0\]: .* found nan"),
        ((1.0,), {"mAP": [[50.0]], "Rank-1": [[-1.0]]}, r"Rank-1\[0\]\[0\]"),
        ((1.0,), {"mAP": [[50.0]], "Rank-2": [[1.0]]}, "values: must be among the metrics .* found Rank-2"),
        ((1.0,), {"Rank-1": [[1.0]]}, "values: must contain mAP"),
    ],
)
def test_what_is_no_grid_is_refused(widths, values, match):
    with pytest.raises(InputError, match=match):
        CompatibilityGrid(widths, values)


def test_metadata_cannot_hide_a_key_of_the_grid():
    with pytest.raises(InputError, match=r"metadata: .* found mAP"):
        CompatibilityGrid((1.0,), {"mAP": [[50.0]]}, metadata={"mAP": 90})


def test_every_cell_is_the_ranking_of_its_pair(features):
    query, gallery, *rest = features
    grid = grid_from_features(query, gallery, rest, metadata={"seed": 3})
    for q in range(3):
        for g in range(3):
            result = rank_queries(query[q], gallery[g], *rest)
            expected = [result.mAP, *(result.rank_k(k) for k in (1, 5, 10)), result.mINP]
            assert [grid.values[metric][q][g] for metric in METRICS] == expected
    assert len({value for row in grid.values["mAP"] for value in row}) == 9  # no two cells can be confused
    assert (grid.dataset, grid.metadata) == ("toy", {"seed": 3})


def test_exchanging_sub_models_of_one_side_exchanges_rows_or_columns_only(features):
    query, gallery, *rest = features
    matrix, rows, columns = (
        grid_from_features(q, g, rest).values["mAP"]
        for q, g in ((query, gallery), (query[::-1], gallery), (query, gallery[::-1]))
    )
    assert rows == matrix[::-1]
    assert columns == tuple(row[::-1] for row in matrix)


def test_exchanging_the_roles_transposes_the_grid():
    """The same two feature sets, given to the sub-models the other way round: one cell moves across the diagonal."""
    rng = np.random.default_rng(1)
    first, second = (torch.from_numpy(rng.integers(-9, 10, size=(12, 4))).float() for _ in range(2))
    pids, zeros, ones = np.arange(12), np.zeros(12), np.ones(12)
    labels, empty = (pids, pids, zeros, ones), torch.zeros(12, 4)
    there = grid_from_features([first, empty], [empty, second], labels, (0.5, 1.0))
    back = grid_from_features([empty, first], [second, empty], labels, (0.5, 1.0))
    assert there.values["mAP"][0][0] != there[0, 1] != there.values["mAP"][1][1]
    for metric in METRICS:
        assert back.values[metric][1][0] == there.values[metric][0][1]


def test_cells_that_are_not_defined_are_not_judged(features):
    query, gallery, *rest = features
    grid = grid_from_features(query, gallery, rest, undefined={(2, 0), (2, 1), (2, 2)})
    assert grid.values["mAP"][2] == (None, None, None)
    assert None not in grid.values["mAP"][1]
    assert grid.compatibility()["judged_cells"] == 2


def test_errors_name_the_sub_model(features):
    query, gallery, *rest = features
    with pytest.raises(InputError, match="gallery features: must be given for each of the 3 widths, found 2"):
        grid_from_features(query, gallery[:2], rest)
    query[1][5, 0] = float("nan")
    with pytest.raises(InputError, match="w075 query features: must be finite, found NaN or infinity in row 5"):
        grid_from_features(query, gallery, rest)
