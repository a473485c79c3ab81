"""Any images as a FastReID data set, from a CSV with the path, identity, camera and split of each image.

.. code-block:: text

    path,pid,camid,split
    shop/0001.jpg,anna,door,train
    shop/0002.jpg,bert,door,query
    shop/0003.jpg,bert,till,gallery

``path`` is relative to the folder of the CSV. ``pid`` and ``camid`` are any text. ``split`` is train, query or gallery.
Further columns are ignored.

Junk: as in Market-1501, a row with ``pid`` -1 shows no known person. It is left out of every split, and the data check
reports the number of such rows. Placeholders for "no value" (empty, nan, none, null, n/a...) are rejected as a ``pid``,
because they would merge many people into one. As a ``camid`` they count as empty.

No-camera mode: if the column ``camid`` is missing, or empty in every row, each image file counts as its own camera,
whatever path or link leads to it. For each query, FastReID's protocol leaves out gallery images of the same identity
*and* the same camera. In this mode, that is only the query's own file. The gallery must therefore contain no copy of a
query image, because every model would find it as a match.
"""

import csv
import os
from collections import Counter
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from fastreid.data.datasets import DATASET_REGISTRY
from fastreid.data.datasets.bases import ImageDataset

from switchablecompat.data.findings import Item, LabelNames
from switchablecompat.data.paths import missing_files, real_paths
from switchablecompat.errors import InputError, name_some
from switchablecompat.files import atomic_write, found_below

SPLITS = ("train", "query", "gallery")
REQUIRED_COLUMNS = ("path", "pid", "split")
COLUMNS = ("path", "pid", "camid", "split")
JUNK = ("-1", "-1.0")  # the latter if a program read the column as numbers
NO_VALUE = ("", "nan", "none", "null", "na", "n/a", "<na>", "#n/a")  # in upper or lower case


class Row(NamedTuple):
    """One image of a manifest. ``camid`` is empty in no-camera mode; ``line`` is 0 if not read from a file."""

    path: str
    pid: str
    camid: str
    split: str
    line: int = 0


def write_manifest(rows: Iterable[Row], path: str | os.PathLike[str]) -> None:
    """Write ``rows`` as a manifest. The file appears only when it is complete."""
    with atomic_write(Path(path)) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(row[: len(COLUMNS)] for row in rows)


def find_manifest(manifest: str, root: str = "datasets") -> str:
    """Return the path of the CSV: absolute, or relative to the current folder, or relative to ``root``.

    Raises:
        InputError: if the name is empty or the file does not exist.
    """
    if not manifest:
        raise InputError("DATASETS.MANIFEST", f"must name a CSV file with the columns {', '.join(COLUMNS)}", "''")
    if found := found_below(manifest, root):
        return found
    raise InputError(manifest, f"must be a CSV file, absolute or relative to {os.getcwd()} or {root}", "no such file")


def read_manifest(manifest: str | os.PathLike[str]) -> list[Row]:
    """Read and check a manifest. Paths of the rows are joined to the folder of the CSV.

    Raises:
        InputError: with the file, the line, the rule and the value found.
    """
    name = os.fspath(manifest)
    try:
        # utf-8-sig: spreadsheet programs write a byte order mark before the name of the first column
        with open(name, encoding="utf-8-sig", newline="") as file:
            rows = _parse(name, csv.reader(file))
    except (UnicodeDecodeError, csv.Error, OSError) as error:
        raise InputError(name, "must be a readable CSV file in UTF-8", error) from error
    if not rows:
        raise InputError(name, "must have at least one row below the header", 0)
    _check_cameras(name, rows)
    _check_files(name, rows)
    return rows


def _parse(name: str, reader: Any) -> list[Row]:
    """Convert the lines of the CSV into rows, and check each rule."""
    header = [column.strip() for column in next(reader, [])]
    for column in REQUIRED_COLUMNS:
        if column not in header:
            raise InputError(f"{name}:1", f"header must have the columns {', '.join(COLUMNS)}, comma-separated", header)
    repeated = [column for column in COLUMNS if header.count(column) > 1]
    if repeated:
        raise InputError(f"{name}:1", "each column may occur once", repeated)

    folder, rows = os.path.dirname(name), []
    for values in reader:
        if not any(value.strip() for value in values):
            continue  # blank lines at the end are common and harmless
        where = f"{name}:{reader.line_num}"
        if len(values) != len(header):
            raise InputError(where, f"must have {len(header)} fields like the header", f"{len(values)}: {values}")
        record = {column: value.strip() for column, value in zip(header, values, strict=True)}
        for column in REQUIRED_COLUMNS:
            if not record[column]:
                raise InputError(where, f"{column} must not be empty", "''")
        if record["pid"].lower() in NO_VALUE:
            raise InputError(where, f"pid must be an identity (or {JUNK[0]}: junk, left out)", repr(record["pid"]))
        if record.get("camid", "").lower() in NO_VALUE:
            record["camid"] = ""
        if record["split"] not in SPLITS:
            raise InputError(where, f"split must be one of {', '.join(SPLITS)}", repr(record["split"]))
        path = os.path.normpath(os.path.join(folder, record["path"]))
        rows.append(Row(path, record["pid"], record["camid"], record["split"], reader.line_num))
    return rows


def _check_cameras(name: str, rows: list[Row]) -> None:
    """Check that all rows have a camera or none has. A guess would silently change which images are left out."""
    rows = [row for row in rows if row.pid not in JUNK]
    empty = [row for row in rows if not row.camid]
    if empty and len(empty) < len(rows):
        rule = "camid must be filled in every row, or in none (no-camera mode)"
        raise InputError(f"{name}:{empty[0].line}", rule, f"'' ({len(empty)} of {len(rows)} rows are empty)")


def _check_files(name: str, rows: list[Row]) -> None:
    """Check that every file exists, and that no split lists a file twice, even by different paths."""
    real = real_paths(row.path for row in rows)
    first: dict[tuple[str, str], Row] = {}
    for row in rows:
        other = first.setdefault((real[row.path], row.split), row)
        if other is not row:
            rule = f"a path may occur once in the split {row.split}"
            spelt = "" if other.path == row.path else f" as {other.path}"
            raise InputError(f"{name}:{row.line}", rule, f"{row.path}, already in line {other.line}{spelt}")
    missing = set(missing_files([row.path for row in rows]))
    if missing:
        lost = [row for row in rows if row.path in missing]
        named = name_some([f"{row.path} (line {row.line})" for row in lost])
        raise InputError(name, "path must name a file, relative to this CSV", f"{len(lost)} missing: {named}")


@DATASET_REGISTRY.register()
class ManifestReID(ImageDataset):
    """The images of a manifest as a FastReID data set.

    Identities and cameras are numbered by their sorted names, jointly over the three splits. Test items have these
    numbers, because FastReID's collator returns None for any type except int. Training items have
    ``manifest_<number>``, as in FastReID's own data sets, so that several training sets can be joined.

    An empty split is an error only when it is used, because a manifest for evaluation needs no training images.

    Args:
        root: FastReID's data set folder, in which ``manifest`` is searched if it does not exist as given.
        manifest: path of the CSV, the value of ``DATASETS.MANIFEST``.

    Attributes:
        rows, num_junk: rows of the CSV without junk, and the number of junk rows.
        pid_names, camid_names: names in the CSV by number; in no-camera mode, files instead of cameras.

    Raises:
        InputError: the CSV is invalid.
    """

    dataset_name = "manifest"

    def __init__(self, root: str = "datasets", manifest: str = "", **kwargs: Any) -> None:
        self.manifest = find_manifest(manifest, root)
        rows = read_manifest(self.manifest)
        self.rows = [row for row in rows if row.pid not in JUNK]
        self.num_junk = len(rows) - len(self.rows)
        if not self.rows:
            raise InputError(self.manifest, "must have rows that are not junk", f"pid {JUNK[0]} in all {len(rows)}")
        self.has_cameras = bool(self.rows[0].camid)
        self.pid_names = sorted({row.pid for row in self.rows})
        self.camid_names = sorted({self._camera(row) for row in self.rows})
        self._pids = {name: number for number, name in enumerate(self.pid_names)}
        self._camids = {name: number for number, name in enumerate(self.camid_names)}
        # FastReID opens the split of ``mode`` at once, so choose one that has rows
        kwargs.setdefault("mode", self.rows[0].split)
        super().__init__(*[lambda split=split: self._required(split) for split in SPLITS], **kwargs)

    @cached_property
    def _real(self) -> dict[str, str]:
        return real_paths(row.path for row in self.rows)

    @property
    def label_names(self) -> LabelNames:
        """Names in the CSV of the identities and cameras of test and training items."""
        by_label = (
            {label: name for n, name in enumerate(names) for label in (n, f"{self.dataset_name}_{n}")}
            for names in (self.pid_names, self.camid_names)
        )
        return LabelNames(*by_label)

    def items(self, split: str) -> list[Item]:
        """Items ``(path, pid, camid)`` of one split in the order of the CSV; may be empty."""
        return [self._item(row, split == "train") for row in self.rows if row.split == split]

    def combine_all(self) -> None:
        """Use all images for training. A person of several splits is one class, and every file is used once."""
        first = {self._real[row.path]: row for row in reversed(self.rows)}
        self._train = [self._item(row, True) for row in reversed(first.values())]

    def _item(self, row: Row, is_train: bool) -> Item:
        pid, camid = self._pids[row.pid], self._camids[self._camera(row)]
        if is_train:
            return row.path, f"{self.dataset_name}_{pid}", f"{self.dataset_name}_{camid}"
        return row.path, pid, camid

    def _required(self, split: str) -> list[Item]:
        items = self.items(split)
        if not items:
            present = dict(Counter(row.split for row in self.rows))
            raise InputError(self.manifest, f"must have at least one row with the split {split}", present)
        return items

    def _camera(self, row: Row) -> str:
        return row.camid if self.has_cameras else self._real[row.path]
