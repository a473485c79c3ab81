"""Published figures, from a CSV with ``method,query,gallery,map``: sub-models numbered from 1, mAP in per cent.

The first lines start with ``#`` and name the source of the figures. Every table with these figures shows them below.
"""

import csv
from dataclasses import dataclass

from ..errors import InputError

COLUMNS = ["method", "query", "gallery", "map"]


@dataclass(frozen=True)
class Published:
    """Published mAP, and its source."""

    source: str
    cells: dict[str, dict[tuple[int, int], float]]  # by method, and by query and gallery sub-model, from 0


def read_published(path: str) -> Published:
    """Read a CSV of published figures.

    Raises:
        InputError: Not a file of this form. The message names the line.
    """
    try:
        with open(path, encoding="utf-8", newline="") as file:
            lines = file.read().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(path, "must be a readable CSV file in UTF-8", error) from None
    comments = [line.lstrip("# ") for line in lines if line.startswith("#")]
    if not comments:
        raise InputError(path, "must start with a line '# ...' that says where the figures are from")
    if lines[len(comments) : len(comments) + 1] != [",".join(COLUMNS)]:
        raise InputError(f"{path}:{len(comments) + 1}", f"must be the header {','.join(COLUMNS)}")
    cells: dict[str, dict[tuple[int, int], float]] = {}
    for number, fields in enumerate(csv.reader(lines[len(comments) + 1 :]), start=len(comments) + 2):
        try:
            method, query, gallery, value = fields
            cell, percent = (int(query) - 1, int(gallery) - 1), float(value)
        except ValueError:
            raise InputError(f"{path}:{number}", f"must be {','.join(COLUMNS)}", ",".join(fields)) from None
        if min(cell) < 0 or not 0 <= percent <= 100:
            raise InputError(f"{path}:{number}", "must count sub-models from 1, and be per cent", ",".join(fields))
        if cell in cells.setdefault(method, {}):
            raise InputError(f"{path}:{number}", "must not give a cell twice", ",".join(fields))
        cells[method][cell] = percent
    return Published(" ".join(comments), cells)
