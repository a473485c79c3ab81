"""Report files: complete, marked, readable, and independent of any global state."""

import csv
import json

import matplotlib
import pytest
from matplotlib.image import imread

from switchablecompat.evaluation import grid_files
from switchablecompat.evaluation.grid import CompatibilityGrid
from switchablecompat.evaluation.grid_files import draw_heat_map, render_table, write_grid

CONVENTION = "rows: query sub-model, columns: gallery sub-model"


@pytest.fixture
def grid():
    """Fails at (0, 1); (0, 2), (1, 2), (2, 0) and (2, 1) cannot be judged."""
    values = {
        "mAP": [[55.5, 50.25, 53.0], [58.0, 67.0, 62.0], [54.0, 62.0, None]],
        "Rank-1": [[80.0, 70.0, None], [90.0, 91.0, 92.0], [1.0, 100.0, 0.0]],
    }
    return CompatibilityGrid((0.25, 0.5, 1.0), values, "Market-1501", {"method": "bct", "seed": 0})


@pytest.fixture
def passing():
    return CompatibilityGrid((0.5, 1.0), {"mAP": [[50.0, 55.0], [56.0, 60.0]]}, "Market-1501")


def test_writes_four_files_and_nothing_else(grid, tmp_path):
    paths = write_grid(grid, tmp_path / "new", stem="market")
    assert [path.name for path in paths] == ["market.json", "market.csv", "market.md", "market.png"]
    assert sorted((tmp_path / "new").iterdir()) == sorted(paths)


def test_json_restores_the_grid(grid, tmp_path):
    write_grid(grid, tmp_path)
    text = (tmp_path / "grid.json").read_text()
    assert CompatibilityGrid.from_dict(json.loads(text)) == grid
    assert json.loads(text) == grid.to_dict()
    assert "    [55.5, 50.25, 53.0],\n" in text  # one row per line


def test_csv_is_long_form(grid, tmp_path):
    write_grid(grid, tmp_path)
    with (tmp_path / "grid.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 9  # metrics without any value are left out
    for row in rows:
        q, g = (grid.widths.index(float(row[side])) for side in ("query_width", "gallery_width"))
        expected = grid.values[row["metric"]][q][g]
        assert row["value"] == ("" if expected is None else str(expected))


def test_markdown_says_which_side_is_which_and_marks_failures(grid, tmp_path):
    write_grid(grid, tmp_path)
    text = (tmp_path / "grid.md").read_text()
    assert CONVENTION in text
    assert text.index("## mAP") < text.index("## Rank-1")
    assert "| w025 | 55.50 | 50.25 ✗ | 53.00 |" in text
    assert "| w100 | 54.00 | 62.00 | - |" in text
    assert text.count("✗") == 2  # the cell and the legend
    assert "## mINP" not in text
    assert "1 of 2 pass" in text
    assert "AC (share of the judged cross-tests that pass) 50.00" in text


def test_without_failures_there_are_no_marks(passing):
    assert "✗" not in grid_files.render_markdown(passing)
    assert "*" not in render_table(passing)


def test_table_for_the_terminal_is_aligned(grid):
    lines = render_table(grid).splitlines()
    assert lines[0] == f"mAP (%), {CONVENTION}"
    assert lines[1:5] == [
        r"query \ gallery   w025    w050    w100",
        "           w025  55.50   50.25*  53.00",
        "           w050  58.00   67.00   62.00",
        "           w100  54.00   62.00       -",
    ]
    assert lines[5].startswith("* not better than")
    assert "*" not in render_table(grid, "Rank-1")  # the criterion is stated on mAP


def test_heat_map_marks_exactly_the_failing_cells(grid):
    axes = draw_heat_map(grid).axes[0]
    marked = [(patch.get_y() + patch.get_height() / 2, patch.get_x() + patch.get_width() / 2) for patch in axes.patches]
    assert marked == [pytest.approx((0, 1))]  # (row, column) = (query, gallery)
    assert axes.patches[0].get_hatch()
    assert {text.get_text() for text in axes.texts} >= {"55.50", "50.25", "-"}
    assert axes.get_xlabel().startswith("gallery sub-model")
    assert axes.get_ylabel().startswith("query sub-model")


def test_heat_map_legend_speaks_of_failures_only_if_there_are_any(grid, passing):
    for each, expected in ((grid, True), (passing, False)):
        legend = [text.get_text() for text in draw_heat_map(each).legends[0].get_texts()]
        assert any(text.startswith("fails") for text in legend) is expected


@pytest.mark.parametrize("matrix", [[[80.0]], [[None]], [[0.0] * 8] * 8, [[100.0, 100.0], [100.0, 100.0]]])
def test_extreme_grids_can_be_drawn(matrix, tmp_path):
    widths = [(i + 1) / len(matrix) for i in range(len(matrix))]
    *_, image = write_grid(CompatibilityGrid(widths, {"mAP": matrix}), tmp_path)
    assert imread(image).std() > 0  # not blank


def test_drawing_touches_no_global_state(grid, tmp_path):
    before = dict(matplotlib.rcParams)
    write_grid(grid, tmp_path)
    assert dict(matplotlib.rcParams) == before
    assert not hasattr(grid_files, "plt")


def test_a_failure_leaves_the_old_image(grid, tmp_path, monkeypatch):
    write_grid(grid, tmp_path)
    old = (tmp_path / "grid.png").read_bytes()

    def broken(grid):
        class Figure:
            def savefig(self, path, **_):
                path.write_bytes(b"half an image")
                raise OSError("disk full")

        return Figure()

    monkeypatch.setattr(grid_files, "draw_heat_map", broken)
    with pytest.raises(OSError, match="disk full"):
        write_grid(grid, tmp_path)
    assert (tmp_path / "grid.png").read_bytes() == old
    assert len(list(tmp_path.iterdir())) == 4


@pytest.fixture
def refined(passing):
    """A grid with cells after both steps, one of which fails where the plain one passes."""
    values = {"mAP": [[70.0, 69.5], [76.0, 80.0]], "Rank-1": [[91.25, 90.0], [92.0, 93.0]]}
    steps = {"aqe": {"k": 5, "times": 1, "alpha": 3.0}, "rerank": {"k1": 20, "k2": 6, "weight": 0.3}}
    return passing.with_refined(CompatibilityGrid((0.5, 1.0), values, "Market-1501", {"refinement": steps}))


def test_refined_cells_stand_beside_the_plain_ones_in_every_file(passing, refined, tmp_path):
    write_grid(refined, tmp_path)
    content = json.loads((tmp_path / "grid.json").read_text())
    assert content.pop("refined") == refined.refined.to_dict()
    assert content == passing.to_dict()
    assert CompatibilityGrid.from_dict(refined.to_dict()) == refined
    with (tmp_path / "grid.csv").open(newline="") as file:
        rows = [tuple(row.values()) for row in csv.DictReader(file)]
    assert len(rows) == 4 + 8
    assert ("mAP", "0.5", "1.0", "55.0") in rows
    assert ("refined Rank-1", "0.5", "0.5", "91.25") in rows
    plain, after = (tmp_path / "grid.md").read_text().split("# After aqe (k 5, times 1, alpha 3.0), rerank (k1 20, ")
    assert "| w050 | 50.00 | 55.00 |" in plain
    assert "| w050 | 70.00 | 69.50 ✗ |" in after
    assert "## Rank-1" in after


def test_the_summary_judges_both(refined, passing):
    plain, _, after = grid_files.render_summary(refined).partition("\nAfter aqe (k 5, ")
    assert plain == grid_files.render_summary(passing)
    assert "Cross-tests: 2 of 2 pass" in plain
    assert "w050  70.00   69.50*" in after
    assert "Cross-tests: 1 of 2 pass" in after
