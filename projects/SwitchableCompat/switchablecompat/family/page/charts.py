"""Line charts as inline SVG. The page's style sheet sets colours, dashes and fonts, so charts follow its theme."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup
from matplotlib.ticker import MaxNLocator

STYLES = 6  # colours with a dash pattern each in the style sheet


@dataclass(frozen=True)
class Curve:
    """Points to join, ``x`` ascending, in one of the numbered styles.

    A ``kind`` is ``line``, ``strong``, ``area`` (filled down to zero) or ``band`` (filled down to ``low``).
    """

    x: Sequence[float]
    y: Sequence[float]
    style: int
    kind: str = "line"
    low: Sequence[float] = ()


@dataclass(frozen=True)
class Rule:
    """A straight line across the chart at one value of ``axis`` ('x' or 'y')."""

    axis: str
    value: float
    style: str


def line_chart(
    curves: Sequence[Curve],
    *,
    alt: str,
    x_range: tuple[float, float],
    y_range: tuple[float, float],
    x_label: str = "",
    y_label: str = "",
    x_ticks: Sequence[float] = (),
    log_x: bool = False,
    rules: Sequence[Rule] = (),
    size: tuple[int, int] = (360, 230),
) -> Markup:
    """Draw curves in this order, clipped to the ranges.

    ``alt`` is the text for readers who cannot see the chart, ``x_ticks`` are the positions of the numbers on the axis
    (chosen automatically if empty), and ``size`` is width and height, about in pixels.
    """
    width, height = size
    left, right, top, bottom = (44 if y_label else 30), width - 8, 8, height - (36 if x_label else 20)
    scale = math.log10 if log_x else float
    low, high = scale(x_range[0]), scale(x_range[1])

    def px(x: float) -> float:
        return left + (right - left) * (min(max(scale(x), low), high) - low) / (high - low)

    def py(y: float) -> float:
        return bottom - (bottom - top) * (min(max(y, y_range[0]), y_range[1]) - y_range[0]) / (y_range[1] - y_range[0])

    parts = [Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="{}">').format(width, height, alt)]
    for y in _ticks(*y_range):
        parts.append(Markup('<path class="tick" d="M{:.1f} {:.1f}H{:.1f}"/>').format(left, py(y), right))
        parts.append(Markup('<text class="y" x="{:.1f}" y="{:.1f}">{:g}</text>').format(left - 4, py(y) + 3.5, y))
    number = Markup('<text class="x" x="{:.1f}" y="{:.1f}">{:g}</text>')
    parts += [number.format(px(x), bottom + 14, x) for x in x_ticks or _ticks(*x_range)]
    parts.append(Markup('<path class="axis" d="M{:.1f} {:.1f}H{:.1f}"/>').format(left, bottom, right))
    for curve in curves:
        points = [f"{px(x):.1f} {py(y):.1f}" for x, y in zip(curve.x, curve.y, strict=True)]
        if curve.kind == "area":
            points = [f"{px(curve.x[0]):.1f} {bottom:.1f}", *points, f"{px(curve.x[-1]):.1f} {bottom:.1f}"]
        if curve.kind == "band":
            points += [f"{px(x):.1f} {py(y):.1f}" for x, y in zip(curve.x[::-1], curve.low[::-1], strict=True)]
        classes = f"{curve.kind} s{curve.style % STYLES}"
        parts.append(Markup('<path class="{}" d="M{}"/>').format(classes, "L".join(points)))
    for rule in rules:
        path = f"M{px(rule.value):.1f} {top}V{bottom}" if rule.axis == "x" else f"M{left} {py(rule.value):.1f}H{right}"
        parts.append(Markup('<path class="rule {}" d="{}"/>').format(rule.style, path))
    if x_label:
        middle = (left + right) / 2
        parts.append(Markup('<text class="x" x="{:.1f}" y="{}">{}</text>').format(middle, height - 6, x_label))
    if y_label:
        middle = (top + bottom) / 2
        turned = Markup('<text class="x" transform="translate(11 {:.1f}) rotate(-90)">{}</text>')
        parts.append(turned.format(middle, y_label))
    return Markup("").join([*parts, Markup("</svg>")])


def _ticks(low: float, high: float) -> list[float]:
    values = MaxNLocator(nbins=6, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
    return [float(value) for value in values if low <= value <= high]
