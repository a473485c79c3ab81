"""Finds images below folders, and reads their paths with a pattern of named groups.

The pattern is searched for in the path of an image below its folder, with ``/`` as separator. docs/datasets.md lists
its groups: ``pid``, ``camid`` (further ones with numbers, joined by ``_``), ``split`` or the name of one, ``type``.
"""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError, name_some

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".tif", ".tiff")
SPLIT_NAMES = ("train", "test", "query", "gallery")


@dataclass(frozen=True)
class Picture:
    """An image, and the texts of the pattern's groups. Camera and split are empty if it does not define them."""

    path: str
    groups: Mapping[str, str]
    pid: str
    camid: str = ""
    split: str = ""


@dataclass(frozen=True)
class Search:
    """Result of :func:`find_pictures`: the pictures, and the images without a match or excluded."""

    pictures: list[Picture]
    unmatched: list[str]
    excluded: list[str]


def find_pictures(folders: Sequence[str], patterns: Sequence[str], exclude: Sequence[str] = ()) -> Search:
    """Find all images below ``folders`` and read their paths with the first pattern that matches.

    Follows links. Skips hidden files and folders, and files with other suffixes.

    Raises:
        InputError: A folder has no images, a pattern is invalid, or a path lacks a required group.
    """
    compiled = [_compile(pattern, "--pattern") for pattern in patterns]
    for pattern in compiled:
        if not any(_part(name) == "pid" for name in pattern.groupindex):
            raise InputError("--pattern", "must have a group (?P<pid>...), the identity", pattern.pattern)
    leave_out = [_compile(pattern, "--exclude") for pattern in exclude]
    found = Search([], [], [])
    seen: set[str] = set()
    for folder in folders:
        paths = list_images(folder)
        if not paths:
            raise InputError(folder, f"must hold images ({', '.join(SUFFIXES)})", "none")
        for path in paths:
            absolute = os.path.abspath(path)
            if absolute in seen:  # a folder given twice, or inside another one
                continue
            seen.add(absolute)
            name = os.path.relpath(path, folder).replace(os.sep, "/")
            match = next((match for pattern in compiled if (match := pattern.search(name))), None)
            if any(pattern.search(name) for pattern in leave_out):
                found.excluded.append(path)
            elif match is None:
                found.unmatched.append(path)
            else:
                found.pictures.append(_read(path, match))
    if not found.pictures:
        what = f"{len(found.unmatched)} images that do not: {name_some(found.unmatched)}"
        raise InputError("--pattern", "must match paths below the folder", what)
    return found


def list_images(folder: str) -> list[str]:
    """Sorted image files in ``folder`` and its subfolders."""
    if not os.path.isdir(folder):
        raise InputError(folder, "must be an existing folder of images")
    found, visited = [], set()
    for parent, folders, names in os.walk(folder, followlinks=True):
        here = os.path.realpath(parent)
        if here in visited:  # a link to a folder above
            folders.clear()
            continue
        visited.add(here)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [
            os.path.join(parent, name)
            for name in names
            if not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES
        ]
    return sorted(found)


def _compile(pattern: str, option: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as error:
        raise InputError(option, f"must be a regular expression ({error})", repr(pattern)) from None


def _read(path: str, match: re.Match[str]) -> Picture:
    texts = {name: text.strip() for name, text in match.groupdict().items() if text is not None}
    groups = {name: text for name, text in texts.items() if _part(name) == name}
    for part in ("pid", "camid"):
        joined = [texts[name] for name in match.re.groupindex if _part(name) == part and texts.get(name)]
        groups[part] = "_".join(joined)
    if not groups["pid"]:
        raise InputError(path, "must have an identity: the pattern's group pid is empty", match.group())
    splits = {name for name in SPLIT_NAMES if texts.get(name)} | {*filter(None, [texts.get("split")])}
    if len(splits) > 1 or not splits <= {*SPLIT_NAMES}:
        raise InputError(path, f"must be of one split, {', '.join(SPLIT_NAMES)}", ", ".join(sorted(splits)))
    return Picture(path, groups, groups["pid"], groups["camid"], "".join(splits))


def _part(name: str) -> str:
    """Name without the number: ``camid`` for ``camid2``."""
    bare = name.rstrip("0123456789")
    return bare if bare in ("pid", "camid") else name
