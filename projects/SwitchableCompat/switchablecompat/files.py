"""Writing files so that a final name never holds a half-written file."""

import json
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .errors import InputError


def refuse_unwritable(folder: str | Path, key: str, rule: str = "must be a folder that can be written to") -> None:
    """Reject, before any work, a folder that cannot be made or written to (InputError of ``key``). Creates nothing."""
    folder = Path(folder).absolute()
    there = next(path for path in (folder, *folder.parents) if os.path.exists(path))
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise InputError(key, rule, there)


def refuse_unwritable_file(path: str | Path, key: str) -> None:
    """Reject, before any work, a file that cannot be written (InputError of ``key``). Creates nothing."""
    path = Path(path).absolute()
    if path.is_dir():
        raise InputError(key, "must be a file, not a folder", path)
    refuse_unwritable(path.parent, key, "must be a file that can be written")


def shipped(path: str) -> str:
    """The path of a file or, if no such file exists, of the file of this name that came with the package, if any.

    ``Synthetic/sfsc.yml`` and ``configs/Synthetic/sfsc.yml`` mean the same file. An installed package has its own copy
    of the configs. A checkout, and a FastReID that contains this project, use their own folder ``configs/``.
    """
    package = Path(__file__).parent
    if not path or os.path.exists(path):
        return path
    for root in (package / "shipped", package.parent, package.parents[2]):
        if (root / "configs" / "Base-SwitchableCompat.yml").is_file():
            found = [file for file in (root / path, root / "configs" / path) if file.is_file()]
            return str(found[0]) if found else path
    return path


def data_root() -> str:
    """FastReID's folder of data sets: the environment variable FASTREID_DATASETS, else ``datasets``."""
    return os.environ.get("FASTREID_DATASETS", "datasets")


def found_below(name: str, root: str) -> str | None:
    """The path of a file that is named absolutely, relative to the current folder, or relative to ``root``."""
    given = os.path.expanduser(name)
    return next((path for path in (given, os.path.join(root, given)) if os.path.isfile(path)), None)


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``, and rename it to ``path`` if the block raises nothing.

    On an exception, also on an interrupt, the temporary file is removed and ``path`` stays as it was. The folder is
    created if needed. The temporary name keeps the suffix, because many writers choose their format by it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Same folder: a rename is atomic only within one file system. Not `tempfile`: its files are private to the user.
    temporary = path.with_name(f".{path.stem}.{secrets.token_hex(6)}.tmp{path.suffix}")
    try:
        yield temporary
        with temporary.open("rb+") as written:
            os.fsync(written.fileno())  # otherwise a power cut can leave an empty file under the new name
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_texts(folder: str | Path, texts: Mapping[str, str]) -> list[Path]:
    """Write texts by file name into ``folder``, with Unix line ends, each whole or not at all; returns the paths."""
    for name, text in texts.items():
        with atomic_write(Path(folder) / name) as temporary:
            temporary.write_text(text, encoding="utf-8", newline="\n")
    return [Path(folder) / name for name in texts]


def write_json(path: str | Path, content: Any, *, indent: int = 2) -> Path:
    """Write strict JSON (no NaN) in UTF-8, whole or not at all; returns the path."""
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(content, indent=indent, allow_nan=False) + "\n", encoding="utf-8")
    return Path(path)


@contextmanager
def atomic_folder(path: str | Path, last: str) -> Iterator[Path]:
    """Yield a temporary folder beside ``path``, and move its files into ``path`` if the block raises nothing.

    On an exception the temporary folder is removed and ``path`` stays as it was. Files of the same name are replaced,
    others stay. The block must write the file ``last``, which describes the others. It is removed first and moved last:
    if a folder has it, its files belong together.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")
    temporary.mkdir()
    try:
        yield temporary
        names = sorted(file.name for file in temporary.iterdir() if file.name != last)
        for name in (*names, last):
            with (temporary / name).open("rb+") as written:
                os.fsync(written.fileno())
        path.mkdir(exist_ok=True)
        (path / last).unlink(missing_ok=True)
        for name in (*names, last):
            os.replace(temporary / name, path / name)
    finally:
        shutil.rmtree(temporary)
