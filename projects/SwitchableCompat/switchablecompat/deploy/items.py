"""Which images a gallery or a query consists of: files, folders, or one side of a data set."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ..data.manifest import ManifestReID
from ..data.opening import data_root, open_dataset
from ..data.paths import unwritable_names
from ..errors import InputError, name_some
from .folders import list_images


class Item(NamedTuple):
    """One image; identity and camera by their names, None where they are not known."""

    path: str
    pid: str | None = None
    camid: str | None = None


def items_of_paths(paths: Sequence[str | Path]) -> list[Item]:
    """Files as they are given, and all images in and below folders, sorted by name.

    Raises:
        InputError: nothing there, a folder without images, or names that are not UTF-8.
    """
    items: list[Item] = []
    for path in map(Path, paths):
        items += [Item(str(image)) for image in ([path] if path.is_file() else list_images(path))]
    return _writable(items)


def _writable(items: list[Item]) -> list[Item]:
    """Refuse names that feature files cannot hold, before time goes into features."""
    if wrong := unwritable_names(item.path for item in items):
        raise InputError("names of images", "must be UTF-8; rename the files", name_some(wrong))
    return items


def items_of_dataset(name: str, split: str, manifest: str = "") -> list[Item]:
    """One split of a data set of FastReID's registry, in its order, with identities and cameras.

    Identities keep their names of a manifest; those of other data sets are called ``NAME_number``, so that equal
    numbers of two data sets are not taken for one identity.

    Args:
        name: its name there.
        split: ``query`` or ``gallery``.
        manifest: the CSV, for ``ManifestReID``.

    Raises:
        InputError: not a data set, not all of it there, or nothing in this split.
    """
    dataset, splits = open_dataset(name, data_root(), manifest)
    if not splits[split]:
        raise InputError(f"data set {name}", f"must have images in the split {split}", "none")
    if isinstance(dataset, ManifestReID):
        pids, camids = dataset.pid_names, dataset.camid_names
        return _writable([Item(path, pids[pid], camids[camid]) for path, pid, camid in splits[split]])
    return _writable([Item(path, f"{name}_{pid}", str(camid)) for path, pid, camid in splits[split]])
