"""The output folder of a run: whether it can be written to, who runs in it, and what an earlier run left there."""

from __future__ import annotations

import errno
import logging
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from fastreid.utils import comm

from ..errors import InputError
from ..files import atomic_write

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]  # a module that is not there

logger = logging.getLogger("fastreid.switchablecompat.output_folder")

LOCK = ".lock"
# What a run leaves: any of the first says that there was one; all of it belongs to that one.
SIGNS = ("last_checkpoint", "model_*.pth", "metrics.json")
LEFT = (*SIGNS, "grid*.json", "grid*.csv", "grid*.md", "grid*.png", "events.out.tfevents.*", "log.txt*", "config*.yaml")
_held: dict[tuple[int, str], int] = {}  # open files by process and folder: a fork has none of its parent's locks


def check_writable(folder: str) -> None:
    """Write to the folder now, rather than find after the first epoch that it cannot be written to.

    Raises:
        InputError: It has no name, or cannot be made or written to.
    """
    if not folder:
        raise InputError("OUTPUT_DIR", "must name a folder", repr(""))
    try:
        os.makedirs(folder, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(2**20))  # a full disk still takes an empty file
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise InputError("OUTPUT_DIR", "must be a folder that can be written to", error) from error


def lock(folder: str) -> None:
    """Let no other process run in this folder until :func:`unlock`, or until this one ends in whatever way.

    A lock of the operating system's: nothing is left to clean up after a kill. It belongs to the process (``fcntl``'s
    record locks, not ``flock``'s, which loader workers would inherit and keep for a killed trainer).

    Raises:
        InputError: Another process runs there; the line has its number.
    """
    key = (os.getpid(), os.path.realpath(folder))
    if fcntl is None or key in _held:
        return
    file = os.open(os.path.join(folder, LOCK), os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        owner = os.read(file, 1000).decode(errors="replace").strip()
        os.close(file)
        if error.errno not in (errno.EACCES, errno.EAGAIN):  # a file system without locks
            logger.warning(f"{folder} cannot be locked against a second run: {error}")
            return
        rule = "must be a folder in which nothing else runs; choose another, or wait"
        raise InputError("OUTPUT_DIR", rule, f"{owner or 'another process'} in {folder}") from None
    os.truncate(file, 0)
    os.write(file, f"process {os.getpid()} on {socket.gethostname()}".encode())
    _held[key] = file


def unlock(folder: str) -> None:
    """Let others run in this folder."""
    file = _held.pop((os.getpid(), os.path.realpath(folder)), None)
    if file is not None:
        os.close(file)


def set_aside(folder: str, needed: Sequence[str] = ()) -> Path | None:
    """Move what an earlier run left into a numbered folder below, so that nothing of it passes for the new run's.

    Args:
        folder: The output folder.
        needed: Files that the new run reads.

    Returns:
        ``folder/earlier-1``, or the next number that is free; None if there was no run.

    Raises:
        InputError: A needed file is among those that would be moved.
    """
    root = Path(folder)
    if not any(path for sign in SIGNS for path in root.glob(sign)):
        return None
    left = [path for pattern in LEFT for path in root.glob(pattern) if path.is_file()]
    for name in needed:
        if name and Path(name).resolve() in {path.resolve() for path in left}:
            rule = "must be another folder than that of a file this run reads, whose run would be set aside"
            raise InputError("OUTPUT_DIR", rule, name)
    number = 1
    while (root / f"earlier-{number}").exists():
        number += 1
    target = root / f"earlier-{number}"
    target.mkdir()
    for path in left:
        if path.suffix == ".yaml":  # may be what this run was started with; it is written anew
            shutil.copy2(path, target)
        else:
            path.rename(target / path.name)
    return target


@contextmanager
def record_kept(folder: str) -> Iterator[None]:
    """Keep the training run's config.yaml: an evaluation's goes to config_eval.yaml."""
    path = os.path.join(folder, "config.yaml")
    kept = None
    if comm.is_main_process() and os.path.isfile(path):
        with open(path) as file:
            kept = file.read()
    yield
    if comm.is_main_process():
        os.replace(path, os.path.join(folder, "config_eval.yaml"))
        if kept is not None:
            with atomic_write(path) as temporary:
                temporary.write_text(kept)
