"""Which images a gallery or a query consists of: files, folders, or one side of a data set.

In and below folders links are followed, hidden names are not, and what is left out is logged.
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from ..data.folder import SUFFIXES
from ..data.manifest import ManifestReID
from ..data.opening import data_root, open_dataset
from ..data.paths import unwritable_names
from ..errors import InputError, name_some

logger = logging.getLogger("fastreid.switchablecompat.images")


class LabelledImage(NamedTuple):
    """One image; identity and camera by their names, None where they are not known."""

    path: str
    pid: str | None = None
    camid: str | None = None


def items_of_paths(paths: Sequence[str | Path]) -> list[LabelledImage]:
    """Files as they are given, and all images in and below folders, sorted by name.

    Raises:
        InputError: nothing there, a folder without images, or names that are not UTF-8.
    """
    items: list[LabelledImage] = []
    for path in map(Path, paths):
        items += [LabelledImage(str(image)) for image in ([path] if path.is_file() else list_images(path))]
    return _writable(items)


def _writable(items: list[LabelledImage]) -> list[LabelledImage]:
    """Refuse names that feature files cannot hold, before time goes into features."""
    if wrong := unwritable_names(item.path for item in items):
        raise InputError("names of images", "must be UTF-8; rename the files", name_some(wrong))
    return items


def items_of_dataset(name: str, split: str, manifest: str = "") -> list[LabelledImage]:
    """One split of a data set of FastReID's registry, in its order, with identities and cameras.

    Identities keep their names of a manifest; those of other data sets are called ``NAME_number``, so that equal
    numbers of two data sets are not taken for one identity.

    ``split`` is ``query`` or ``gallery``; ``manifest`` is the CSV for ``ManifestReID``.

    Raises:
        InputError: not a data set, not all of it there, or nothing in this split.
    """
    dataset, splits = open_dataset(name, data_root(), manifest)
    if not splits[split]:
        raise InputError(f"data set {name}", f"must have images in the split {split}", "none")
    if isinstance(dataset, ManifestReID):
        pids, camids = dataset.pid_names, dataset.camid_names
        return _writable([LabelledImage(path, pids[pid], camids[camid]) for path, pid, camid in splits[split]])
    return _writable([LabelledImage(path, f"{name}_{pid}", str(camid)) for path, pid, camid in splits[split]])


def list_images(folder: str | Path) -> list[Path]:
    """The image files in a folder and its subfolders, by their suffix, sorted by name; logs how many are left out.

    Links to files and folders are followed, a folder once, however many links lead to it. Left out are names that begin
    with a dot (thumbnails, ``.ipynb_checkpoints``, ``._`` of macOS), other suffixes, links to nothing, and folders that
    cannot be read.

    Raises:
        InputError: Not a folder, or none in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(folder, "must be an existing folder of images")
    left_out: Counter[str] = Counter()
    found = sorted(_walk(folder, left_out))
    reasons = name_some([f"{count} {reason}" for reason, count in sorted(left_out.items())], len(left_out))
    if not found:
        raise InputError(folder, f"must hold images ({', '.join(SUFFIXES)})", reasons or "none")
    if left_out:
        logger.warning(f"{folder}: {len(found)} images; left out: {reasons}")
    return found


def _walk(folder: Path, left_out: Counter[str]) -> Iterator[Path]:
    """Image files, each folder once: by its own name where there is one, rather than by a link's."""
    seen = set()
    folders, links = [folder], list[Path]()
    while folders or links:
        folder = folders.pop() if folders else links.pop(0)
        try:
            status = folder.stat()
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError:
            left_out["folders that cannot be read"] += 1
            continue
        if (status.st_dev, status.st_ino) in seen:
            left_out["folders that are linked again"] += 1
            continue
        seen.add((status.st_dev, status.st_ino))
        for entry in entries:
            path = folder / entry.name
            if entry.name.startswith("."):
                left_out["names that begin with a dot"] += 1
            elif entry.is_dir():
                (links if entry.is_symlink() else folders).append(path)
            elif path.suffix.lower() not in SUFFIXES:
                left_out["files of other suffixes"] += 1
            elif not entry.is_file():
                left_out["links to nothing"] += 1
            else:
                yield path
