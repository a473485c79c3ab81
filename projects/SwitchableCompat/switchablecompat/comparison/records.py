"""``run.json``, the record of a training run: what it was started with, and whether that is what is asked for now."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from fastreid.config import get_cfg

from ..config import add_switchablecompat_config
from ..config_unread import why_unread
from ..errors import InputError
from ..settings import flat_settings

RECORD = "run.json"
# The record of a run that was never started.
NO_RECORD: dict[str, Any] = {"settings": {}, "starts": 0, "seconds": 0.0, "code": []}
REFERENCE = "reference."  # prefix of the reference's settings


def read_record(folder: Path) -> dict[str, Any] | None:
    """The run's ``run.json``; None if there is none.

    Raises:
        InputError: a file of this name that is no such record.
    """
    path = folder / RECORD
    if not path.exists():
        return None
    record = read_json(path)
    if not isinstance(record, dict) or not {*NO_RECORD} <= {*record}:
        raise InputError(path, "must be the record of a run; move its folder away")
    return record


def difference(there: Mapping[str, Any], asked: Mapping[str, Any]) -> str:
    """The first key in which two settings differ, in words; empty if they mean the same.

    A key that was not known there, and has its default here, changes nothing: results survive an update that adds keys.
    Neither does a key that nobody reads, here or there.
    """
    defaults = flat_settings(add_switchablecompat_config(get_cfg()))
    for key in sorted({*there, *asked}):
        if idle(key, there, defaults) and idle(key, asked, defaults):
            continue
        before = there[key] if key in there else defaults.get(key.removeprefix(REFERENCE))
        if key not in asked or before != asked[key]:
            return f"{key} {before!r} there, {asked.get(key)!r} asked"
    return ""


def idle(key: str, settings: Mapping[str, Any], defaults: Mapping[str, Any]) -> bool:
    """Whether nothing reads a key of these settings, of a run or of its reference."""
    prefix = REFERENCE if key.startswith(REFERENCE) else ""
    own = key.removeprefix(prefix)
    return bool(why_unread(own, lambda other: settings.get(f"{prefix}{other}", defaults.get(other))))


@cache
def code_digest() -> str:
    """Digest of the package's sources: it tells apart two runs of equal settings between which the code changed."""
    package = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        if path.is_relative_to(Path(__file__).parent):
            continue  # tables and plots do not change what a run gives
        digest.update(path.relative_to(package).as_posix().encode() + b"\0" + path.read_bytes())
    return f"sha256:{digest.hexdigest()}"


def read_json(path: Path) -> Any:
    """The content of a JSON file; refuses one that is not."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(path, "must be a readable JSON file", " ".join(str(error).split())) from None
