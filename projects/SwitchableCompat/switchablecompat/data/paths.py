"""Checks of image paths: missing files, different paths to one file, and names that are no valid text.

Folders are listed once instead of a query for each file, which saves minutes on network disks.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable


def missing_files(paths: Iterable[str]) -> list[str]:
    """Those ``paths`` that are no files (including broken links), each once, in the given order."""
    listings, missing = dict[str, dict[str, tuple[bool, int]]](), []
    for path in dict.fromkeys(paths):
        folder, name = os.path.split(path)
        if folder not in listings:
            listings[folder] = _listing(folder)
        # a name may differ from its listing (upper case, Unicode form), so check the disk as well
        if not listings[folder].get(name, (False, 0))[0] and not os.path.isfile(path):
            missing.append(path)
    return missing


def real_paths(paths: Iterable[str]) -> dict[str, str]:
    """Map each path to one name per file, which is absolute and resolves links, also hard links.

    Two paths have the same name if and only if they lead to the same file. A missing file has its own name.
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
        if len(names) > 1:  # inode numbers may be from several disks, or unreliable: compare the files themselves
            same.update(_hard_links(sorted(names)))
    return {path: same.get(real, real) for path, real in found.items()}


def _listing(folder: str) -> dict[str, tuple[bool, int]]:
    """For each entry of a folder: whether it is a regular file (no link, no folder), and its inode number."""
    try:
        with os.scandir(folder or ".") as entries:
            return {entry.name: (entry.is_file(follow_symlinks=False), entry.inode()) for entry in entries}
    except OSError:
        return {}


def _hard_links(names: list[str]) -> dict[str, str]:
    """Map each further name of a file to the first one."""
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
    """Those ``paths`` that are no UTF-8 text, in printable form. Result files cannot contain them."""
    wrong = []
    for path in dict.fromkeys(paths):
        try:
            path.encode()
        except UnicodeEncodeError:
            wrong.append(ascii(path))
    return wrong
