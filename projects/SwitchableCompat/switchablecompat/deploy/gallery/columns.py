"""Read more columns of items, such as the time or the site, from a CSV. Search engines can filter by them."""

import csv
import math
import os
import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ...errors import InputError
from ..image_list import LabelledImage

NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?")
DIGITS = 20  # of the longest whole number in 64 bits, with its sign


def read_columns(path: str | Path, items: Sequence[LabelledImage]) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Values of items by their paths and columns, and the names of the columns.

    The CSV has a column ``path`` (absolute, or relative to the CSV's folder), with one line for each item, and others.
    A column holds whole numbers if all its values are, else numbers if all are, else text. Numbers are plain decimals
    (``-1``, ``0.5``) that fit 64 bits; so ``007``, ``1_000`` and ``nan`` are text. Empty values are left out.
    Columns ``pid`` and ``camid``, repeated paths and columns, and lines of another length raise InputError.
    """
    path = Path(path)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            header, *rows = _lines(path, csv.reader(file)) or [[]]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(path, "must be a readable CSV", error) from None
    if not rows or "path" not in header:
        raise InputError(path, "must have a column path and a line for each item", ", ".join(header) or "none")
    if labels := [name for name in ("pid", "camid") if name in header]:
        rule = "must have no columns pid and camid: labels come from the data set (--dataset) or from the shards"
        raise InputError(path, rule, ", ".join(labels))
    _refuse_repeated(path, "each column", [name for name in header if name])
    places = {name: number for number, name in enumerate(header) if name and name != "path"}
    kinds = {name: _kind([row[place] for row in rows if row[place]]) for name, place in places.items()}
    files = [os.path.abspath(path.parent / row[header.index("path")]) for row in rows]
    _refuse_repeated(path, "each path", files)
    values = [{name: kinds[name](row[place]) for name, place in places.items() if row[place]} for row in rows]
    by_file = dict(zip(files, values, strict=True))
    missing = [item.path for item in items if os.path.abspath(item.path) not in by_file]
    if missing:
        raise InputError(path, f"must have a line for each of the {len(items)} items", f"none for {missing[0]}")
    return {item.path: by_file[os.path.abspath(item.path)] for item in items}, [*places]


def _lines(path: Path, reader: Any) -> list[list[str]]:
    """All lines that are not empty; reject one that is longer or shorter than the first."""
    lines: list[list[str]] = []
    for line in filter(None, reader):
        if lines and len(line) != len(lines[0]):
            raise InputError(f"{path}: line {reader.line_num}", f"must have {len(lines[0])} fields", len(line))
        lines.append(line)
    return lines


def _refuse_repeated(path: Path, what: str, names: Sequence[str]) -> None:
    name, number = Counter(names).most_common(1)[0]
    if number > 1:
        raise InputError(path, f"must have {what} once", f"{name} {number} times")


def _kind(values: Sequence[str]) -> Callable[[str], Any]:
    """What turns all values of a column into Python's."""
    found = [NUMBER.fullmatch(value) for value in values]
    whole = [value for value, match in zip(values, found, strict=True) if match and not match[2]]
    fits = all(len(value) <= DIGITS and -(2**63) <= int(value) < 2**63 for value in whole)
    if not (all(found) and fits and all(math.isfinite(float(value)) for value in values)):
        return str
    return int if len(whole) == len(values) else float
