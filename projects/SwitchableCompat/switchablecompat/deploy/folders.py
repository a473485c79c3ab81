"""Which files in and below a folder are images: links are followed, hidden names are not, what is left out is said."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from ..errors import InputError, name_some

logger = logging.getLogger("fastreid.switchablecompat.images")

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".tif", ".tiff")


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
