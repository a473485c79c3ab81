"""The gate on grids by hand: what breaks, what just holds, and files that are refused."""

import json
import re
from pathlib import Path

import pytest

from switchablecompat.errors import InputError
from switchablecompat.evaluation.grid import CompatibilityGrid
from switchablecompat.evaluation.grid_files import render_json
from switchablecompat.family.requirements import broken_requirements, read_requirements

ROOT = Path(__file__).parents[3]
GRID = CompatibilityGrid(
    (0.5, 1.0),
    {"mAP": [[50.0, 49.0], [56.25, 60.0]], "Rank-1": [[70.0, None], [71.0, 72.0]]},
    "Market-1501",
    {"num_query": 10},
)  # one of two cross-tests passes


def broken(tmp_path, text, name="require.yaml", grid=GRID):
    (tmp_path / name).write_text(text)
    return [str(one) for one in broken_requirements(read_requirements(tmp_path / name), grid)]


def test_values_that_just_hold(tmp_path):
    text = "mAP: {w050/w100: 49, w100/w050: 56.25}\nRank-1: {w100/w100: 72.0}\nAC: 50.0"
    assert broken(tmp_path, text) == []


def test_each_broken_requirement_is_named(tmp_path):
    text = "mAP: {w050/w100: 49.01, w100/w100: 60, w100/w050: 57}\nRank-1: {w050/w100: 1}\nAC: 60"
    assert broken(tmp_path, text) == [
        "mAP w050/w100: at least 49.01 required, 49.0000 found",  # row: query
        "mAP w100/w050: at least 57 required, 56.2500 found",
        "Rank-1 w050/w100: at least 1 required, - found",
        "AC: at least 60 required, 50.0000 found",
    ]


def test_compatibility_that_cannot_be_judged_is_not_there(tmp_path):
    alone = CompatibilityGrid((1.0,), {"mAP": [[50.0]]})
    assert broken(tmp_path, "AC: 0", grid=alone) == ["AC: at least 0 required, - found"]


def baseline(tmp_path, values, **others):
    stored = CompatibilityGrid(**{"widths": (0.5, 1.0), "values": values, "dataset": "Market-1501", **others})
    (tmp_path / "stored").mkdir()
    (tmp_path / "stored" / "grid.json").write_text(render_json(stored))


def test_drops_against_a_stored_grid(tmp_path):
    # 50 of 51.5, 49 of 50 (just allowed), 56.25 of 55 (a gain), 60 of 61.1.
    baseline(tmp_path, {"mAP": [[51.5, 50.0], [55.0, 61.1]], "Rank-1": [[70.0, 50.0], [72.5, None]]})
    text = "baseline: stored/grid.json\nmax_drop: 1.0"
    expected = [
        "mAP w050/w050: at most 1 below the baseline's 51.5000 required, 50.0000 found",
        "mAP w100/w100: at most 1 below the baseline's 61.1000 required, 60.0000 found",
    ]
    assert broken(tmp_path, text) == expected  # the path is relative to the file
    each = "baseline: stored/grid.json\nmax_drop: {mAP: 1.1, Rank-1: 1.5}"
    assert broken(tmp_path, each) == [
        "mAP w050/w050: at most 1.1 below the baseline's 51.5000 required, 50.0000 found",
        "Rank-1 w050/w100: at most 1.5 below the baseline's 50.0000 required, - found",
    ]


def test_a_drop_that_is_allowed_exactly_is_not_lost_to_rounding(tmp_path):
    values = {"mAP": [[63.01, 63.01], [63.01, 63.01]]}
    baseline(tmp_path, {"mAP": [[64.01] * 2] * 2})
    assert 64.01 - 63.01 > 1.0  # in floating point
    text = "baseline: stored/grid.json\nmax_drop: 1"
    assert broken(tmp_path, text, grid=CompatibilityGrid((0.5, 1.0), values, "Market-1501")) == []


def test_json_says_the_same(tmp_path):
    content = {"mAP": {"w050/w100": 49.5}, "AC": 10}
    assert broken(tmp_path, json.dumps(content, indent="\t"), "require.json") == [
        "mAP w050/w100: at least 49.5 required, 49.0000 found"
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"require.yaml: must map keys \(mAP, Rank-1, .*\) to values"),
        ("- mAP", r"must map keys"),
        ("map: {w050/w050: 1}", r"may have the keys mAP, Rank-1, Rank-5, Rank-10, mINP, AC, .*, found map"),
        ("mAP: 60", r"mAP: must map cells query/gallery, such as w025/w100, to per cent, found 60"),
        ("mAP: {}", r"mAP: must map cells"),
        ("mAP: {w050: 60}", r"mAP: must name cells query/gallery, such as w025/w100, found 'w050'"),
        ("mAP: {0.5/1.0: 60}", r"mAP: must name cells"),
        ("mAP: {w033/w100: 60}", r"mAP: must name cells of the sub-models w050, w100, found w033/w100"),
        ("mAP: {w050/w100: high}", r"mAP: w050/w100: must be a number in \[0, 100\], found 'high'"),
        ("mAP: {w050/w100: .nan}", r"must be a number in \[0, 100\], found nan"),
        ("mAP: {w050/w100: true}", r"must be a number in \[0, 100\], found True"),
        ("mAP: {w050/w100: 600}", r"must be a number in \[0, 100\], found 600"),
        ("AC: -1", r"AC: must be a number in \[0, 100\], found -1"),
        ("mAP: {w050/w100: 60, w050/w100: 40}", r"without a key twice, found w050/w100 is given twice"),
        ("mAP: {w050/w100: 60}\nmAP: {w100/w100: 60}", r"without a key twice, found mAP is given twice"),
        ("mAP: {w050/w100: 60", r"must be valid yaml or JSON"),
        ("max_drop: 1", r"must have baseline and max_drop together, found \['max_drop'\]"),
        ("baseline: stored/grid.json", r"must have baseline and max_drop together"),
        ("baseline: none.json\nmax_drop: 1", r"require.yaml: baseline: must be a readable grid.json"),
        ("baseline: require.yaml\nmax_drop: 1", r"baseline: must be a readable grid.json"),
        ("baseline: stored/grid.json\nmax_drop: all", r"max_drop: mAP: must be a number"),
        (
            "baseline: stored/grid.json\nmax_drop: {mINP: 1}",
            r"metrics that the baseline has \(mAP\) to numbers, found {'mINP': 1}",
        ),
        ("baseline: stored/grid.json\nmax_drop: {}", r"max_drop: must be a number"),
    ],
)
def test_files_that_say_nothing_clear_are_refused(tmp_path, text, message):
    baseline(tmp_path, {"mAP": [[50.0] * 2] * 2})
    with pytest.raises(InputError, match=message):
        broken(tmp_path, text)


@pytest.mark.parametrize(
    ("others", "message"),
    [
        ({"dataset": "MSMT17"}, "require.yaml: baseline: must have the grid's data set Market-1501, found MSMT17"),
        ({"widths": (0.25, 1.0)}, r"must have the grid's sub-models \('w050', 'w100'\), found \('w025', 'w100'\)"),
        ({"metadata": {"num_query": 9}}, "must have the grid's num_query 10, found 9"),
    ],
)
def test_a_baseline_of_something_else_is_refused(tmp_path, others, message):
    baseline(tmp_path, {"mAP": [[50.0] * 2] * 2}, **others)
    with pytest.raises(InputError, match=message):
        broken(tmp_path, "baseline: stored/grid.json\nmax_drop: 1")


def test_the_example_of_the_documentation_is_accepted(tmp_path):
    (text,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "report.md").read_text(), re.DOTALL)
    stored = ROOT / "results" / "demo" / "grid.json"
    grid = CompatibilityGrid.from_dict(json.loads(stored.read_text()))
    found = broken(tmp_path, text.replace("results/demo/grid.json", str(stored)), grid=grid)
    assert not any("baseline" in line for line in found)  # it is the baseline
    assert {line.split(":")[0] for line in found} <= {"mAP w025/w100", "mAP w100/w100", "Rank-1 w025/w025", "AC"}


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match="--require: must be a readable yaml or JSON file"):
        read_requirements(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("key", "ours", "theirs"),
    [("test_set", "sha256:a", "sha256:b"), ("flip", False, True), ("gallery_draws", 10, None)],
)
def test_a_baseline_of_another_test_is_refused(tmp_path, key, ours, theirs):
    """Splits of one data set have one name, and may have as many queries."""
    values = {"mAP": GRID.values["mAP"]}
    baseline(tmp_path, values, metadata={} if theirs is None else {key: theirs})
    grid = CompatibilityGrid(GRID.widths, values, GRID.dataset, {key: ours})
    text = "baseline: stored/grid.json\nmax_drop: 1.0"
    if key == "gallery_draws":  # only a mean over draws has it
        with pytest.raises(InputError, match="must have the grid's gallery_draws 10, found 1"):
            broken(tmp_path, text, grid=grid)
        return
    with pytest.raises(InputError, match=rf"baseline: must have the grid's {key} {ours}, found {theirs}"):
        broken(tmp_path, text, grid=grid)
