"""The page's tables: grids with one field per cell, and the effect of shared thresholds."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...evaluation.grid import format_value
from ...evaluation.task import Cell
from ..report import FamilyReport
from ..verification import OperatingPoint, SharedThreshold, Verification


@dataclass(frozen=True)
class Field:
    """One cell of a matrix: its value, a second line, its darkness in [0, 1], and whether it is marked as bad."""

    text: str
    small: str = ""
    shade: float = 0.0
    bad: bool = False


Matrix = list[list[Field]]

TIMES = "\N{MULTIPLICATION SIGN}"


def value_matrix(values: Sequence[Sequence[float | None]], bad: Collection[Cell] = ()) -> Matrix:
    """Values in per cent as fields; the cells of ``bad`` are marked."""
    shade = _shading([value for row in values for value in row])
    return [
        [Field(format_value(value), shade=shade(value), bad=(q, g) in bad) for g, value in enumerate(row)]
        for q, row in enumerate(values)
    ]


def verification_tables(report: FamilyReport, one: Verification) -> dict[str, Any]:
    """The three matrices of one target FAR, and one line per rule for a shared threshold."""
    rules = {"pooled": one.pooled, "strictest": one.strictest}
    all_points: list[Mapping[Cell, OperatingPoint]] = [one.own, *(rule.points for rule in rules.values())]
    shade = _shading([point.tar for points in all_points for point in points.values()])
    size = range(len(report.grid.names))

    def field(point: OperatingPoint | None, small: str) -> Field:
        if point is None or point.tar is None or point.far is None:
            return Field("-")
        text = small.format(threshold=point.threshold, times=point.far / one.target)
        return Field(format_value(point.tar), text, shade(point.tar), bad=point.far > one.target)

    def matrix(points: Mapping[Cell, OperatingPoint], small: str) -> Matrix:
        return [[field(points.get((q, g)), small) for g in size] for q in size]

    return {
        "target": f"{one.target:g}",
        "reason": next((point.reason for point in one.own.values() if point.reason), ""),
        "own": matrix(one.own, "at {threshold:.4f}"),
        "shared": [
            rule_line(report, one, name, rule) | {"fields": matrix(rule.points, f"FAR {{times:.2f}}{TIMES}")}
            for name, rule in rules.items()
            if rule.points
        ],
    }


def rule_line(report: FamilyReport, one: Verification, name: str, rule: SharedThreshold) -> dict[str, str]:
    far, tar = rule.highest_far, rule.lowest_tar
    assert far is not None  # for this and the next: an existing threshold has been measured
    assert tar is not None
    over = sum(point.far > one.target for point in rule.points.values())
    return {
        "name": name,
        "threshold": f"{rule.threshold:.4f}",
        "highest_far": f"{format_far(rule.points[far].far)} ({rule.points[far].far / one.target:.2f}{TIMES})",
        "highest_far_cell": report.cell_name(far),
        "over": f"{over} of {len(rule.points)}",
        "lowest_tar": format_value(rule.points[tar].tar),
        "lowest_tar_cell": report.cell_name(tar),
        "own_tar": format_value(one.own[tar].tar),
        "mean_tar": format_value(sum(point.tar for point in rule.points.values()) / len(rule.points)),
    }


def format_far(value: float) -> str:
    """Format a false accept rate with two digits."""
    return f"{value:.1e}".replace("e-0", "e-") if value else "0"


def _shading(values: Sequence[float | None]) -> Callable[[float | None], float]:
    """Shades from the lowest value (light) to the highest. A span below two points is unimportant, and is widened."""
    defined = [value for value in values if value is not None] or [0.0]
    low, span = min(defined), max(max(defined) - min(defined), 2.0)
    return lambda value: 0.0 if value is None else round((value - low) / span, 3)
