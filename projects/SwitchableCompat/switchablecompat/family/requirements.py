"""Requirements for a grid: minimum values, compatibility, and how far it may fall below a stored grid.

A requirements file is yaml or JSON. Every key is optional, but at least one must be present::

    mAP: {w025/w100: 60.0, w100/w100: 75.0}   # query/gallery, per cent; any metric of grid.json
    Rank-1: {w100/w100: 85.0}
    AC: 100.0                                 # share of the judged cross-tests that pass, per cent
    baseline: results/demo/grid.json          # a stored grid of the same test set; relative to this file
    max_drop: 1.0                             # points of mAP below it that a cell may lose; or {mAP: 1.0, Rank-1: 2.0}
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ..errors import InputError
from ..evaluation.grid import METRICS, CompatibilityGrid

KEYS = (*METRICS, "AC", "baseline", "max_drop")
CELL = re.compile(r"w\d+/w\d+")
ROUNDING = 1e-9  # percentage points, since differences of decimal numbers are not exact
TEST_SET = ("num_query", "num_gallery", "test_set", "flip")  # which grids of earlier versions may lack


@dataclass(frozen=True)
class Requirement:
    """The minimum in per cent of one cell ``query/gallery``, or of AC (then ``cell`` is empty), and the reason."""

    metric: str
    cell: str
    least: float
    rule: str


@dataclass(frozen=True)
class Requirements:
    """The content of a requirements file, the stored grid that some of them use, and the file's name for messages."""

    each: Sequence[Requirement]
    baseline: CompatibilityGrid | None
    source: str


def broken_requirements(requirements: Requirements, grid: CompatibilityGrid) -> list[str]:
    """One line per requirement that the grid does not meet. A cell that is not defined meets no requirement.

    An unknown cell, or a baseline of another test set or other widths, raises InputError.
    """
    if (baseline := requirements.baseline) is not None:
        pairs = [("data set", grid.dataset, baseline.dataset), ("sub-models", grid.names, baseline.names)]
        known = [key for key in TEST_SET if key in grid.metadata and key in baseline.metadata]
        pairs += [(key, grid.metadata[key], baseline.metadata[key]) for key in known]
        draws = [one.metadata.get("gallery_draws", 1) for one in (grid, baseline)]
        for key, ours, theirs in [*pairs, ("gallery_draws", *draws)]:
            if ours != theirs:
                raise InputError(f"{requirements.source}: baseline", f"must have the grid's {key} {ours}", theirs)
    broken = []
    for one in requirements.each:
        values = {"": grid.compatibility()["AC"]} if one.metric == "AC" else _cells(grid, one.metric)
        if one.cell not in values:
            rule = f"must name cells of the sub-models {', '.join(grid.names)}"
            raise InputError(f"{requirements.source}: {one.metric}", rule, one.cell)
        value = values[one.cell]
        if value is None or value < one.least:
            broken.append(f"{f'{one.metric} {one.cell}'.strip()}: {one.rule} required, {_text(value)} found")
    return broken


def read_requirements(path: str | Path) -> Requirements:
    """Read and check a requirements file and its baseline."""
    path = Path(path)
    content = _load(path)
    if not isinstance(content, Mapping) or not content:
        raise InputError(path, f"must map keys ({', '.join(KEYS)}) to values", content)
    if unknown := [key for key in content if key not in KEYS]:
        raise InputError(path, f"may have the keys {', '.join(KEYS)}", unknown[0])
    if ("baseline" in content) != ("max_drop" in content):
        raise InputError(path, "must have baseline and max_drop together", [*content])
    minimum = {metric: _minimum(content[metric], f"{path}: {metric}") for metric in METRICS if metric in content}
    if "AC" in content:
        minimum["AC"] = {"": _number(content["AC"], f"{path}: AC")}
    each = [
        Requirement(metric, cell, least, f"at least {least:g}")
        for metric, cells in minimum.items()
        for cell, least in cells.items()
    ]
    if "baseline" not in content:
        return Requirements(each, None, str(path))
    try:
        stored = json.loads((path.parent / str(content["baseline"])).read_text(encoding="utf-8"))
        baseline = CompatibilityGrid.from_dict(stored)
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: baseline", "must be a readable grid.json", error) from None
    each += [
        Requirement(metric, cell, before - drop - ROUNDING, f"at most {drop:g} below the baseline's {_text(before)}")
        for metric, drop in _max_drop(content["max_drop"], baseline, f"{path}: max_drop").items()
        for cell, before in _cells(baseline, metric).items()
        if before is not None
    ]
    return Requirements(each, baseline, str(path))


def _minimum(cells: Any, where: str) -> dict[str, float]:
    if not isinstance(cells, Mapping) or not cells:
        raise InputError(where, "must map cells query/gallery, such as w025/w100, to per cent", cells)
    for name in cells:
        if not CELL.fullmatch(str(name)):
            raise InputError(where, "must name cells query/gallery, such as w025/w100", repr(name))
    return {name: _number(value, f"{where}: {name}") for name, value in cells.items()}


def _max_drop(content: Any, baseline: CompatibilityGrid, where: str) -> dict[str, float]:
    drops = content if isinstance(content, Mapping) else {"mAP": content}
    known = [name for name in METRICS if any(value is not None for value in _cells(baseline, name).values())]
    if not drops or not {*drops} <= {*known}:
        rule = f"must be a number (for mAP), or map metrics that the baseline has ({', '.join(known)}) to numbers"
        raise InputError(where, rule, content)
    return {metric: _number(value, f"{where}: {metric}") for metric, value in drops.items()}


def _number(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0.0 <= value <= 100.0:  # rejects NaN too
        raise InputError(where, "must be a number in [0, 100]", repr(value))
    return float(value)


def _cells(grid: CompatibilityGrid, metric: str) -> dict[str, float | None]:
    """Values of one metric by ``query/gallery``."""
    rows = zip(grid.names, grid.values[metric], strict=True)
    return {f"{q}/{g}": value for q, row in rows for g, value in zip(grid.names, row, strict=True)}


def _text(value: float | None) -> str:
    """Format with four decimals: with two, a value just below its minimum would look equal to it."""
    return "-" if value is None else f"{value:.4f}"


def _load(path: Path) -> Any:
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".json":
            return json.loads(text, object_pairs_hook=_unique)
        return yaml.load(text, _UniqueKeys)
    except OSError as error:
        raise InputError("--require", "must be a readable yaml or JSON file", error) from None
    except (ValueError, yaml.YAMLError) as error:
        raise InputError(
            path, "must be valid yaml or JSON, without a key twice", " ".join(str(error).split())
        ) from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Reject duplicate keys, of which JSON would silently drop all but the last."""
    keys = [key for key, _ in pairs]
    if twice := [key for key in keys if keys.count(key) > 1]:
        raise ValueError(f"{twice[0]} is given twice")
    return dict(pairs)


class _UniqueKeys(yaml.SafeLoader):
    """Rejects duplicate keys, of which plain yaml would keep only the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        _unique([(self.construct_object(key, deep=True), None) for key, _ in node.value])
        return super().construct_mapping(node, deep)
