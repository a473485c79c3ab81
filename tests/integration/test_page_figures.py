"""No page shows a figure that a person typed: measured figures stand between markers, and follow their JSON."""

import json
import re
from itertools import chain, product
from pathlib import Path
from statistics import fmean

import pytest
import scipy.stats

import update_docs
from doc_tables import RENDERERS, comparisons, deployment, grids

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
MARKED = re.compile(r"<!-- (?P<kind>[\w ]+?)(?:: \S+)? -->\n.*?<!-- /(?P=kind) -->", re.DOTALL)
CODE = re.compile(r"```.*?```|`[^`\n]*`", re.DOTALL)
MEASURED = re.compile(
    r"(?<![\w.-])\d[\d,.]*(?:(?: to | and | or |, )\d[\d,.]*)? ?"
    r"(?:points?|%|per cent|times|ms|s|seconds|minutes|hours?|[KMGT]i?B|of \d+)(?!\w)"
    r"|(?<![\w.-])\d\d\.\d+(?!\w|\.\d)"
)
# Constants of the code, and rules: they do not change when something is measured again.
CONSTANTS = {
    "README.md": set(),
    "gpu.md": {"28 %", "22 %", "5 %", "45 %"},  # shares of the budget, gpu/__main__.py
    "experiments.md": {"90 seconds"},  # comparison/claims.py
    "implementation_notes.md": {"10 %"},  # layers/channels.py
    "milvus.md": {"16 MB", "64 MB"},  # size of a message
    "recipes.md": {"2.1 GB", "35 GB"},  # arithmetic: all images against all
    "search.md": {"128 GB"},  # an assumption of the arithmetic
    "speed.md": {"128 MiB"},  # size of a block
}


def typed_figures(text):
    """Measured figures outside markers and code."""
    return {match[0].strip() for match in MEASURED.finditer(CODE.sub("", MARKED.sub("", text)))}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_measured_figure_is_typed_by_hand(page):
    assert typed_figures(page.read_text()) == CONSTANTS.get(page.name, set())


@pytest.mark.parametrize(
    "text",
    ["10 of 12 cross-tests", "mAP is 63.8.", "by 1.1 to 3.1 points", "86 % pass", "0.38 s", "takes 4 times as long"],
)
def test_a_typed_figure_is_found(text):
    assert typed_figures(f"Words.\n\n<!-- grid: x.json -->\n63.8\n<!-- /grid -->\n{text}")


def test_figures_that_were_measured_once_say_so():
    marked = [
        match[0] for page in PAGES for match in MARKED.finditer(page.read_text()) if match["kind"] == "measured once"
    ]
    assert marked
    for text in marked:
        assert re.search(r"not committed|No command rebuilds", text)


@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if any(re.search(r"\d", m["body"]) for m in update_docs.BLOCK.finditer(page.read_text()))],
    ids=lambda page: page.name,
)
def test_a_stale_figure_is_replaced(page, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)  # suites name their configs from there
    text = page.read_text()
    stale = update_docs.BLOCK.sub(
        lambda match: match[0].replace(match["body"], re.sub(r"\d", "7", match["body"])), text
    )
    assert stale != text
    copy = tmp_path / page.relative_to(ROOT)
    copy.parent.mkdir(exist_ok=True)
    copy.write_text(stale)
    for folder in ("results", "configs"):
        (tmp_path / folder).symlink_to(ROOT / folder)
    assert update_docs.update(copy) == text


def grids_of(method, suite="pretrained"):
    paths = sorted((ROOT / "results" / suite).glob(f"{method}-seed*.json"))
    return [json.loads(path.read_text())["grid"]["mAP"] for path in paths]


def leads(ours, theirs, suite):
    """Differences of the means of all cells, by seed."""
    pairs = zip(grids_of(ours, suite), grids_of(theirs, suite), strict=True)
    return [fmean(chain(*a)) - fmean(chain(*b)) for a, b in pairs]


def interval(pair):
    return scipy.stats.ttest_rel(*pair).confidence_interval(0.95)


def test_differences_are_means_over_seeds_of_ours_minus_the_baseline(monkeypatch):
    monkeypatch.chdir(ROOT)
    folder = ROOT / "results" / "synthetic"

    def mean(method, q, g):
        return fmean(
            json.loads((folder / f"{method}-seed{seed}.json").read_text())["grid"]["mAP"][q][g] for seed in range(3)
        )

    cells = {(q, g): mean("sfsc", q, g) - mean("bct_s", q, g) for q, g in product(range(4), repeat=2)}
    lowest = min(cells, key=cells.get)
    table = RENDERERS["differences"](ROOT / "configs" / "suites" / "synthetic.yml")
    (row,) = [line.split("|")[1:-1] for line in table.splitlines() if line.startswith("| BCT-S  ")]
    names = ["w025", "w050", "w075", "w100"]
    assert row[1].strip() == f"{sum(value > 0 for value in cells.values())} of 16"
    low, high = interval([leads("sfsc", "bct_s", "synthetic"), [0.0] * 3])
    bold = "**" if low > 0 or high < 0 else ""
    assert row[2].strip() == f"{bold}{fmean(cells.values()):+.2f} [{low:+.2f}, {high:+.2f}]{bold}"
    assert row[3].strip() == f"{cells[lowest]:+.2f} ({names[lowest[0]]} on {names[lowest[1]]})"


GRID = {
    "dataset": "Set", "method": "sfsc", "seed": 3, "versions": {"python": "3", "torch": "2", "fastreid": "1"},
    "hardware": {"gpu": "", "cpu": "CPU", "cores": 2},
}  # fmt: skip


def test_thresholds_of_a_family_by_hand(tmp_path):
    def cells(*points):
        return {f"cell{i}": {"TAR": tar, "FAR": far} for i, (tar, far) in enumerate(points)}

    one = {
        "target_FAR": 0.01,
        "own": cells((80.0, 0.01), (60.0, 0.01)),
        "pooled": {"cells": cells((90.0, 0.015), (40.0, 0.005))},
        "strictest": {"cells": cells((50.0, 0.01), (30.0, 0.001))},
    }
    path = tmp_path / "report.json"
    path.write_text(json.dumps({"grid": GRID, "verification": [one]}))
    row = grids.threshold_table(path).splitlines()[2]
    assert [cell.strip() for cell in row.split("|")[1:-1]] == ["0.01", "0.50 to 1.50", "70.0", "65.0", "40.0"]


def test_mixed_gallery_by_hand(tmp_path):
    mixed = {
        "old": "w025", "new": "w100",
        "random": {"w025": [[10.0, 4.0, 20.0, 30.0], [10.0, 8.0, 16.0, 30.0]]},
        "isolated": {"w025": [10.0, 9.0, 19.0, 30.0]},
    }  # fmt: skip
    path = tmp_path / "report.json"
    path.write_text(json.dumps({"grid": GRID, "mixed_gallery": mixed}))
    row = grids.mixed_table(path).splitlines()[2]
    # random mean on the way: 6, 18; isolated minus it: 3, 1
    assert [cell.strip() for cell in row.split("|")[1:-1]] == ["w025", "10.0", "30.0", "6.0", "4.0", "+2.0"]


def test_trials_of_indexes_by_hand(tmp_path):
    trial = {
        "factory": "IVF4,PQ2", "num_vectors": 1000, "dimension": 8, "num_queries": 10, "vector_bytes": 32_000_000,
        "index_bytes": 2_000_000, "peak_bytes": 9_000_000, "imports_bytes": 4_000_000,
        "recall": [{"parameters": "nprobe=1", "recall@10": 55.5}], "versions": {"faiss": "1"},
    }  # fmt: skip
    (tmp_path / "one.json").write_text(json.dumps(trial))
    row = deployment.trial_table(tmp_path).splitlines()[2]
    assert [cell.strip() for cell in row.split("|")[1:-1]] == ["`IVF4,PQ2`", "2", "5", "nprobe=1", "55.50"]


def test_the_claims_of_the_first_page_hold():
    text = " ".join((ROOT / "README.md").read_text().split())
    assert "SFSC beats BCT-S in every cell, and in all but one the interval excludes zero." in text
    assert "Each other baseline wins at most two cells." in text
    assert "Agreement, which BCT-S lacks, brings almost half of that lead, uncertainty estimation the rest" in text
    assert "the rest: more than a point in every cell. Beside agreement, a plain mean of the class vectors'" in text
    assert "Projection adds less than noise. The two largest sub-models stay below Unified." in text
    assert "(PKU-Reid) SFSC beats BCT-S in every cell, also with ImageNet's MobileNetV2, but intervals are wide" in text

    def passed(grid):
        pairs = [(a, b) for a, b in product(range(4), repeat=2) if a != b]
        return sum(grid[a][b] > min(grid[a][a], grid[b][b]) for a, b in pairs)

    def means(method, suite="pretrained"):
        found = grids_of(method, suite)
        defined = [(q, g) for q, g in product(range(4), repeat=2) if found[0][q][g] is not None]
        return {(q, g): fmean(grid[q][g] for grid in found) for q, g in defined}

    ours = means("sfsc")
    lost = {
        method: [cell for cell, value in means(method).items() if ours[cell] <= value]
        for method in ("bct_s", "asymmetric_s", "bct", "asymmetric", "unified")
    }
    assert lost["bct_s"] == []

    def significant(other):
        cells = product(range(4), repeat=2)
        values = ([[grid[q][g] for grid in grids_of(method)] for method in ("sfsc", other)] for q, g in cells)
        return sum(scipy.stats.ttest_rel(*pair).pvalue < 0.05 for pair in values)

    assert significant("bct_s") == 15
    assert {len(lost[method]) for method in ("asymmetric_s", "bct", "asymmetric", "unified")} == {1, 2}
    assert all(ours[cell] > value + 1 for cell, value in means("sfsc_no_uncertainty").items())
    assert significant("sfsc_no_uncertainty") == 16
    assert significant("sfsc_no_projection") == significant("bct_s_mean_agreement") == 0
    assert lost["unified"] == [(2, 2), (3, 3)]
    assert (
        0.4 < fmean(leads("bct_s_agreement", "bct_s", "pretrained")) / fmean(leads("sfsc", "bct_s", "pretrained")) < 0.5
    )
    for suite in ("pku", "pku_mobilenetv2"):
        theirs = means("bct_s", suite)
        assert all(value > theirs[cell] for cell, value in means("sfsc", suite).items())
    assert "on vehicles, on three of five splits" in text
    assert sorted(map(round, leads("sfsc", "bct_s", "vehicle"))) == [-1, 0, 3, 4, 4]
    assert min(leads("sfsc", "bct_s", "pku")) > 0
    assert "A short [ResNet-50 training](docs/gpu.md) agrees." in text
    runs = json.loads((ROOT / "results/gpu_finetune/finetune.json").read_text())["runs"]
    small = [[row[:3] for row in runs[method]["grid"]["mAP"]] for method in ("sfsc", "bct_s")]
    assert all(a > b for a, b in zip(*(chain(*grid) for grid in small), strict=True))
    assert sum(map(passed, grids_of("sfsc", "pku"))) < sum(map(passed, grids_of("bct_s", "pku")))


def test_published_figures_have_a_line_per_method_and_their_source(tmp_path):
    path = tmp_path / "published.csv"
    cells = ["One,1,1,50.0", "One,2,2,60.0", "Two,1,1,40.0", "Two,1,2,42.0", "Two,2,1,46.0", "Two,2,2,61.5"]
    path.write_text("\n".join(["# Talk of somebody", "method,query,gallery,map", *cells]) + "\n")
    lines = comparisons.published_table(path).splitlines()
    rows = [[field.strip() for field in line.strip("|").split("|")] for line in lines[2:4]]
    assert rows == [
        ["One", "50.0", "60.0", "-", "-", "-"],
        ["Two", "40.0", "61.5", "42.0", "46.0", "44.0"],  # the mean of both cross-tests
    ]
    assert lines[-1] == "(Talk of somebody.)"
