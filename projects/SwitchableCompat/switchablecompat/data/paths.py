"""Image files by their paths: which are there, which are the same, and which have names that cannot be written down.

Folders are listed once instead of asking for each file: seconds instead of minutes on network disks.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable


def missing_files(paths: Iterable[str]) -> list[str]:
    """The ``paths`` that are no files (links to nothing among them), each once, in the order given."""
    listings, missing = dict[str, dict[str, tuple[bool, int]]](), []
    for path in dict.fromkeys(paths):
        folder, name = os.path.split(path)
        if folder not in listings:
            listings[folder] = _listing(folder)
        # a name may be written otherwise than it is listed (upper case, Unicode form), so ask again before accusing
        if not listings[folder].get(name, (False, 0))[0] and not os.path.isfile(path):
            missing.append(path)
    return missing


def real_paths(paths: Iterable[str]) -> dict[str, str]:
    """By path as it is spelt, one name for each file: absolute, and without links, also hard ones.

    Two paths have the same name if and only if they lead to the same file (a file that is not there has its own).
    """
    folders: dict[str, tuple[str, dict[str, tuple[bool, int]]]] = {}
    found: dict[str, str] = {}
    by_inode = defaultdict[int, set[str]](set)
    for path in dict.fromkeys(paths):
        folder, name = os.path.split(path)
        if folder not in folders:
            folders[folder] = os.path.realpath(folder or "."), _listing(folder)
        real_folder, listing = folders[folder]
        plain, inode = listing.get(name, (False, 0))
        real = f"{real_folder}{os.sep}{name}" if plain else os.path.realpath(path)
        found[path] = real
        if not plain:
            try:
                inode = os.stat(real).st_ino
            except OSError:
                continue
        by_inode[inode].add(real)
    same = {}
    for names in by_inode.values():
        if len(names) > 1:  # numbers of listings may be of several disks, or unreliable: compare the files themselves
            same.update(_hard_links(sorted(names)))
    return {path: same.get(real, real) for path, real in found.items()}


def _listing(folder: str) -> dict[str, tuple[bool, int]]:
    """Whether each entry of a folder is a file itself (not a link, not a folder), and the number of its file."""
    try:
        with os.scandir(folder or ".") as entries:
            return {entry.name: (entry.is_file(follow_symlinks=False), entry.inode()) for entry in entries}
    except OSError:
        return {}


def _hard_links(names: list[str]) -> dict[str, str]:
    """The first of the names that lead to the same file, for each of the others."""
    first: dict[tuple[int, int], str] = {}
    same = {}
    for name in names:
        try:
            status = os.stat(name)
        except OSError:
            continue
        one = first.setdefault((status.st_dev, status.st_ino), name)
        if one != name:
            same[name] = one
    return same


def unwritable_names(paths: Iterable[str]) -> list[str]:
    """The ``paths`` that are not text in UTF-8, in a form that can be printed; no file of results can hold them."""
    wrong = []
    for path in dict.fromkeys(paths):
        try:
            path.encode()
        except UnicodeEncodeError:
            wrong.append(ascii(path))
    return wrong
