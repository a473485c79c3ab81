"""The output folder of a run: write check, lock, and files of an earlier run."""

import errno
import itertools
import json
import logging
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fastreid.utils import comm

from ..errors import InputError
from ..evaluation.grid import CompatibilityGrid
from ..files import write_texts

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]  # a module that is not there

logger = logging.getLogger("fastreid.switchablecompat.output_folder")

LOCK = ".lock"
# Files of a run. Any of the first group shows that there was a run; all groups belong to it.
SIGNS = ("last_checkpoint", "model_*.pth", "metrics.json")
LEFT = (*SIGNS, "grid*.json", "grid*.csv", "grid*.md", "grid*.png", "events.out.tfevents.*", "log.txt*", "config*.yaml")
_held: dict[tuple[int, str], int] = {}  # open files by process and folder: a fork does not inherit its parent's locks


def check_writable(folder: str) -> None:
    """Reject a folder that has no name, or cannot be made or written to (InputError), by writing to it."""
    if not folder:
        raise InputError("OUTPUT_DIR", "must name a folder", repr(""))
    try:
        os.makedirs(folder, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(2**20))  # a full disk still accepts an empty file
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise InputError("OUTPUT_DIR", "must be a folder that can be written", error) from error


def lock(folder: str) -> None:
    """Lock the folder until :func:`unlock` or the end of this process; reject one that another process holds.

    The operating system holds the lock, so a killed process leaves nothing behind. The lock is a record lock of
    ``fcntl``, which belongs to the process. Loader workers would inherit a lock of ``flock`` and keep it after the
    trainer is killed.
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
    file = _held.pop((os.getpid(), os.path.realpath(folder)), None)
    if file is not None:
        os.close(file)


def has_run(folder: str) -> bool:
    """Whether a folder has files of a run."""
    return any(path for sign in SIGNS for path in Path(folder).glob(sign))


def set_aside(folder: str, needed: Sequence[str] = ()) -> Path | None:
    """Move files of an earlier run into a numbered subfolder, so that they cannot be mistaken for the new run's.

    Returns:
        ``folder/earlier-1``, or the next free number; None if there was no earlier run.

    Raises:
        InputError: A file ``needed`` by the new run is among those that would be moved.
    """
    root = Path(folder)
    if not has_run(folder):
        return None
    left = [path for pattern in LEFT for path in root.glob(pattern) if path.is_file()]
    for name in needed:
        if name and Path(name).resolve() in {path.resolve() for path in left}:
            rule = "must not be the folder of a file that this run reads, because an earlier run there is moved"
            raise InputError("OUTPUT_DIR", rule, name)
    target = _new_subfolder(root)
    for path in left:
        if path.suffix == ".yaml":  # may be the config that started this run; it is written again
            shutil.copy2(path, target)
        else:
            path.rename(target / path.name)
    return target


def set_grid_aside(grid: CompatibilityGrid, folder: str, stem: str) -> None:
    """Move the files of a different grid of the same name, of another model or test, into a numbered subfolder."""
    root = Path(folder)
    there = root / f"{stem}.json"
    if not there.is_file() or _measured(json.loads(there.read_text(encoding="utf-8"))) == _measured(grid.to_dict()):
        return
    target = _new_subfolder(root)
    for path in root.glob(f"{stem}.*"):
        path.rename(target / path.name)
    logger.warning(f"{there} was the grid of another model or test; it is now in {target}")


def _measured(content: Mapping[str, Any]) -> dict[str, Any]:
    """The content of a ``grid.json`` without what may differ when the same is measured again."""
    return {key: value for key, value in content.items() if key not in ("versions", "hardware")}


def _new_subfolder(root: Path) -> Path:
    target = next(path for number in itertools.count(1) if not (path := root / f"earlier-{number}").exists())
    target.mkdir()
    return target


@contextmanager
def record_kept(folder: str) -> Iterator[None]:
    """Keep the training run's config.yaml; write that of an evaluation to config_eval.yaml."""
    path = Path(folder, "config.yaml")
    kept = {path.name: path.read_text()} if comm.is_main_process() and path.is_file() else {}
    yield
    if comm.is_main_process():
        path.replace(path.with_name("config_eval.yaml"))
        write_texts(folder, kept)
