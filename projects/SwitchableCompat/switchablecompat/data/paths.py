"""Checks of image paths: missing files, different paths to one file, and names that are no valid text.

Folders are listed once instead of a query for each file, which saves minutes on network disks.
"""

import os
from collections import defaultdict
from collections.abc import Iterable
from contextlib import suppress
from functools import cache


def missing_files(paths: Iterable[str]) -> list[str]:
    """Those ``paths`` that are no files (including broken links), each once, in the given order."""
    listing, missing = cache(_listing), []
    for path in dict.fromkeys(paths):
        folder, name = os.path.split(path)
        # a name may differ from its listing (upper case, Unicode form), so check the disk as well
        if not listing(folder).get(name, (False, 0))[0] and not os.path.isfile(path):
            missing.append(path)
    return missing


def real_paths(paths: Iterable[str]) -> dict[str, str]:
    """Map each path to one name per file, which is absolute and resolves links, also hard links.

    Two paths have the same name if and only if they lead to the same file. A missing file has its own name.
    """
    listing, real_folder = cache(_listing), cache(lambda folder: os.path.realpath(folder or "."))
    found: dict[str, str] = {}
    by_inode = defaultdict[int, set[str]](set)
    for path in dict.fromkeys(paths):
        folder, name = os.path.split(path)
        plain, inode = listing(folder).get(name, (False, 0))
        found[path] = f"{real_folder(folder)}{os.sep}{name}" if plain else os.path.realpath(path)
        with suppress(OSError):
            by_inode[inode if plain else os.stat(found[path]).st_ino].add(found[path])
    same: dict[str, str] = {}
    for names in by_inode.values():
        if len(names) > 1:  # inode numbers may be from several disks, or unreliable: compare the files themselves
            same |= _hard_links(sorted(names))
    return {path: same.get(real, real) for path, real in found.items()}


def _listing(folder: str) -> dict[str, tuple[bool, int]]:
    """For each entry of a folder: whether it is a regular file (no link, no folder), and its inode number."""
    try:
        with os.scandir(folder or ".") as entries:
            return {entry.name: (entry.is_file(follow_symlinks=False), entry.inode()) for entry in entries}
    except OSError:
        return {}


def _hard_links(names: list[str]) -> dict[str, str]:
    """Map each name of a file to the first one."""
    first: dict[tuple[int, int], str] = {}
    same = {}
    for name in names:
        with suppress(OSError):
            status = os.stat(name)
            same[name] = first.setdefault((status.st_dev, status.st_ino), name)
    return same


def unwritable_names(paths: Iterable[str]) -> list[str]:
    """Those ``paths`` that are no UTF-8 text, in printable form. Result files cannot contain them."""
    return [ascii(path) for path in dict.fromkeys(paths) if path.encode(errors="ignore").decode() != path]
