"""Read more columns of items, such as the time or the site, from a CSV. Search engines can filter by them."""

import csv
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ...errors import InputError
from ..image_list import LabelledImage


def read_columns(path: str | Path, items: Sequence[LabelledImage]) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Values of items by their paths and columns, and the names of the columns.

    The CSV has a column ``path`` (absolute, or relative to the CSV's folder), with a line for each item, and others. A
    column holds whole numbers if all its values are, else numbers if all are, else text. Empty values are left out.
    """
    path = Path(path)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(path, "must be a readable CSV", error) from None
    if not rows or "path" not in rows[0]:
        found = ", ".join(rows[0]) if rows else "none"
        raise InputError(path, "must have a column path and a line for each item", found)
    names = [name for name in rows[0] if name and name not in (*LabelledImage._fields, "split")]
    kinds = {name: _kind([row[name] for row in rows if row[name]]) for name in names}
    values = ({name: kinds[name](row[name]) for name in names if row[name]} for row in rows)
    by_file = {os.path.abspath(path.parent / row["path"]): found for row, found in zip(rows, values, strict=True)}
    missing = [item.path for item in items if os.path.abspath(item.path) not in by_file]
    if missing:
        raise InputError(path, f"must have a line for each of the {len(items)} items", f"none for {missing[0]}")
    return {item.path: by_file[os.path.abspath(item.path)] for item in items}, names


def _kind(values: Sequence[str]) -> Callable[[str], Any]:
    for kind in (int, float):
        try:
            [kind(value) for value in values]
        except ValueError:
            continue
        return kind
    return str
