"""The images of a gallery or of queries: files, folders with their subfolders, or one split of a data set."""

import logging
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..data.folder import SUFFIXES
from ..data.manifest import ManifestReID
from ..data.opening import open_dataset
from ..data.paths import unwritable_names
from ..errors import InputError, name_some
from ..files import data_root

logger = logging.getLogger("fastreid.switchablecompat.images")


class LabelledImage(NamedTuple):
    """One image, with the names of its identity and camera, or None if they are not known."""

    path: str
    pid: str | None = None
    camid: str | None = None


def labels_of(*sides: Sequence[LabelledImage]) -> list[np.ndarray]:
    """The identities of each side, ``[n]``, then the cameras of each: the arguments of ``ProtocolMatches``."""
    return [np.array([item[column] for item in side]) for column in (1, 2) for side in sides]


def items_of_paths(paths: Sequence[str | Path]) -> list[LabelledImage]:
    """Files as given, and all images in and below folders, sorted by name. A file that comes again is left out."""
    found: list[str] = []
    for path in map(Path, paths):
        found += map(str, [path] if path.is_file() else list_images(path))
    first: dict[str, str] = {}
    real = cache(os.path.realpath)  # of the folders, which hold many images each
    for name in found:
        folder, file = os.path.split(name)
        first.setdefault(os.path.realpath(name) if os.path.islink(name) else os.path.join(real(folder), file), name)
    if repeated := len(found) - len(first):
        logger.warning(
            f"{len(first)} images; left out: {repeated} that are given again, under the same name or a link's"
        )
    return _writable([LabelledImage(name) for name in first.values()])


def _writable(items: list[LabelledImage]) -> list[LabelledImage]:
    """Reject names that feature files cannot hold, before any feature is computed."""
    if wrong := unwritable_names(item.path for item in items):
        raise InputError("names of images", "must be UTF-8; rename the files", name_some(wrong))
    return items


def items_of_dataset(name: str, split: str, manifest: str = "") -> list[LabelledImage]:
    """One split (``query``, ``gallery``) of a data set of FastReID's registry, in order, with identities and cameras.

    Identities of a manifest keep their names. Those of other data sets become ``NAME_number``, so that equal numbers in
    two data sets do not mean the same identity. ``manifest`` is the CSV for ``ManifestReID``.
    """
    dataset, splits = open_dataset(name, data_root(), manifest)
    if not splits[split]:
        raise InputError(f"data set {name}", f"must have images in the split {split}", "none")
    if isinstance(dataset, ManifestReID):
        pids, camids = dataset.pid_names, dataset.camid_names
        return _writable([LabelledImage(path, pids[pid], camids[camid]) for path, pid, camid in splits[split]])
    return _writable([LabelledImage(path, f"{name}_{pid}", str(camid)) for path, pid, camid in splits[split]])


def list_images(folder: str | Path) -> list[Path]:
    """List the image files in a folder and its subfolders, by suffix, sorted by name; log how many are left out.

    Links are followed, but each folder is searched once. Names that begin with a dot (thumbnails,
    ``.ipynb_checkpoints``, ``._`` of macOS), other suffixes, broken links and unreadable folders are left out.
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
    """Walk image files, each folder once: under its own name if it lies below ``folder``, else under a link's."""
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
