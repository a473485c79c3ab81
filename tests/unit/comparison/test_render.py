"""Markdown, CSV and LaTeX of fabricated results."""

import csv
import io

import pytest

from doc_tables.comparisons import difference_table
from switchablecompat.comparison.plots import draw_curves, draw_heat_maps, write_plots
from switchablecompat.comparison.render import (
    format_difference,
    format_spread,
    render_csvs,
    render_headline,
    render_latex,
    render_markdown,
    render_overview,
    write_tables,
)
from switchablecompat.comparison.statistics import Difference, Spread
from switchablecompat.comparison.table import Comparison


@pytest.fixture
def comparison(suite, results):
    return Comparison(suite, results)


def rows_of(text):
    return list(csv.DictReader(io.StringIO(text)))


def test_the_headline_has_the_papers_rows_in_its_order_and_means_only(comparison):
    lines = render_headline(comparison).splitlines()
    assert lines[0] == "| mAP (%) | w050 | w100 | mean cross-test | AC (%) |"
    assert [line.split(" | ")[0] for line in lines[2:4]] == ["| Unified", "| B_C_T"], "'ours' is no row of the paper"
    assert lines[2].startswith("| Unified | 47.0 | ")
    assert lines[2].endswith("| - | - |")
    assert lines[-1] == "(Fabricated numbers. Means over seeds 0, 1.)"


def test_the_headline_says_which_seeds_are_there(suite, results):
    one = [result for result in results if result.seed == 1]
    assert render_headline(Comparison(suite, one)).endswith("(Fabricated numbers. Seed 1.)")
    fewer = [result for result in results if not (result.method == "unified" and result.seed == 0)]
    lines = render_headline(Comparison(suite, fewer)).splitlines()
    assert [line.split(" | ")[0] for line in lines[2:4]] == ["| Unified (n=1)", "| B_C_T"]


def test_markdown_has_grid_summary_and_differences(comparison):
    text = render_markdown(comparison)
    assert "rows: query sub-model, columns: gallery sub-model" in text
    assert "| **Ours** (n=2) | w050 | 52.00 ± 2.83 | 58.00 ± 2.83 |" in text
    assert "| **Unified** (n=2) | w050 | 47.00 ± 1.41 | - |" in text
    assert "|  | w100 | 50.00 ± 7.07 | - |" in text  # BCT's own full model is not defined
    assert "| measure | Ours | Unified | B_C_T |" in text
    assert "| AM | 60.00 ± 2.12 |" in text
    assert "## Ours minus each baseline" in text
    assert "| **B_C_T** | w050 | +3.00 [-9.71, +15.71] |" in text
    assert "trained without compatibility (Unified)" in text


def test_one_seed_shows_neither_spread_nor_interval(suite, results):
    text = render_markdown(Comparison(suite, [results[0], results[4]]))
    assert "| **Ours** (n=1) | w050 | 50.00 | 56.00 |" in text
    assert "| **B_C_T** | w050 | +4.00 | +6.00 |" in text
    assert " ± " not in text.split("## mAP")[1].split("## Summary")[0]


def test_a_measure_of_fewer_seeds_says_so():
    assert format_spread(Spread(3.5, None, 1), 2) == "3.50 (n=1)"
    assert format_spread(Spread(3.5, 0.25, 2), 2) == "3.50 ± 0.25"


def test_differences_that_exclude_zero_are_bold():
    assert format_difference(Difference(2.0, 1.0, 3.0, 3)) == "**+2.00 [+1.00, +3.00]**"
    assert format_difference(Difference(-2.0, -3.0, 1.0, 3)) == "-2.00 [-3.00, +1.00]"
    assert format_difference(None) == "-"


def test_a_difference_of_fewer_pairs_than_our_seeds_says_so(suite, results):
    assert format_difference(Difference(2.0, 1.0, 3.0, 2), 3) == "**+2.00 [+1.00, +3.00]** (n=2)"
    assert format_difference(Difference(2.0, -1.0, 5.0, 2), 2) == "+2.00 [-1.00, +5.00]"
    fewer = [result for result in results if (result.method, result.seed) != ("bct", 1)]
    text = render_markdown(Comparison(suite, fewer)).split("## Ours minus each baseline")[1]
    assert "| B_C_T | +7.67 (n=1) |" in text  # (4 + 6 + 13) / 3
    assert "| **B_C_T** | w050 | +4.00 (n=1) | +6.00 (n=1) |" in text
    assert "n=" not in next(line for line in text.splitlines() if line.startswith("| **Unified**"))
    both = difference_table(Comparison(suite, fewer)).splitlines()
    (line,) = [line for line in both if "B_C_T" in line]
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[1:] == ["3 of 3", "+7.67 (n=1)", "+4.00 (w050 on w050, n=1)", "+13.00 (w100 on w050, n=1)"]
    assert "n=" not in difference_table(Comparison(suite, results))


def test_csv_holds_full_precision_and_only_what_is_defined(comparison):
    cells = rows_of(render_csvs(comparison)["cells.csv"])
    ours = next(r for r in cells if (r["method"], r["query_width"], r["gallery_width"]) == ("ours", "0.5", "1.0"))
    assert (ours["metric"], float(ours["mean"]), ours["n"]) == ("mAP", 58.0, "2")
    assert float(ours["std"]) == pytest.approx(8**0.5, rel=1e-12)
    assert len([r for r in cells if r["method"] == "unified"]) == 2
    assert len([r for r in cells if r["metric"] == "negative_flips"]) == 2
    differences = rows_of(render_csvs(comparison)["differences.csv"])
    assert [(r["ours"], r["baseline"]) for r in differences] == [("ours", "unified")] * 2 + [("ours", "bct")] * 3
    summary = rows_of(render_csvs(comparison)["summary.csv"])
    assert ("unified", "AC") not in [(r["method"], r["measure"]) for r in summary]


def test_overview_has_a_line_per_method(comparison):
    lines = render_overview(comparison).splitlines()
    assert lines[0] == "| mAP (%) | w050 | w100 | w050 on w100 | w100 on w050 | mean cross-test | AC (%) |"
    ours = ["52.00 ± 2.83", "71.00 ± 1.41", "58.00 ± 2.83", "59.00 ± 1.41", "58.50 ± 2.12", "100.00 ± 0.00"]
    assert lines[2] == f"| Ours | {' | '.join(ours)} |"
    assert lines[3] == "| Unified | 47.00 ± 1.41 | 74.00 ± 0.00 | - | - | - | - |"
    assert lines[-1].startswith(
        "(data set: fabricated. Fabricated numbers.; seeds: 0, 1; hardware: abacus, 1 CPU cores;"
    )


def test_overview_says_where_seeds_are_missing(suite, results):
    text = render_overview(
        Comparison(suite, [result for result in results if (result.method, result.seed) != ("bct", 1)])
    )
    assert "| B_C_T (n=1) | 46.00 | - | 50.00 | 45.00 | 47.50 |" in text
    assert "| Ours | 52.00" in text


def test_latex_is_a_plain_tabular_with_escaped_titles(comparison):
    text = render_latex(comparison)
    assert r"\begin{tabular}{llrr}" in text
    assert r"B\_C\_T & $\phi_{1}$ & 49.00 $\pm$ 4.24 & 50.50 $\pm$ 0.71 \\" in text
    assert "±" not in text
    assert text.count(r" & $\phi_{2}$ & ") == 3  # one row per method


def test_files_are_written_whole(comparison, tmp_path):
    paths = [*write_tables(comparison, tmp_path / "r"), *write_plots(comparison, tmp_path / "r")]
    assert sorted(paths) == sorted((tmp_path / "r").iterdir())
    assert all(path.stat().st_size > 0 for path in paths)


def test_plots_show_every_method_and_leave_undefined_cells_empty(comparison):
    maps = draw_heat_maps(comparison)
    titles = [axes.get_title() for axes in maps.axes if axes.get_title()]
    assert titles == ["Ours (n=2)", "Unified (n=2)", "B_C_T (n=2)"]
    assert [text.get_text() for text in maps.axes[1].texts] == ["47.00", "-", "-", "74.00"]
    curves = draw_curves(comparison)
    self_tests = {c.get_label(): list(c.lines[0].get_ydata()) for c in curves.axes[0].containers}
    assert self_tests == {"Ours": [52.0, 71.0], "Unified": [47.0, 74.0], "B_C_T": [49.0]}
    cross = {c.get_label(): list(c.lines[0].get_ydata()) for c in curves.axes[1].containers}
    assert cross == {"Ours": [58.0, 71.0], "Unified": [74.0], "B_C_T": [50.5]}
