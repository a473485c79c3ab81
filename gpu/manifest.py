"""The manifest of an output folder: which parts ran, how they ended, on which machine and with which versions."""

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

NAME = "manifest.json"
SESSION = ("budget_seconds", "dry_run", "started", "hardware", "versions")  # what an entry of another session keeps


def write(folder: Path, content: Mapping[str, Any]) -> None:
    """Write the manifest; the file is always complete."""
    temporary = folder / f".{NAME}"
    temporary.write_text(json.dumps(content, indent=2) + "\n")
    temporary.replace(folder / NAME)


def others(folder: Path, parts: Collection[str]) -> dict[str, Any]:
    """Entries of an earlier manifest for all but these parts, each with its ``session``; none if there is no manifest.

    Raises:
        SystemExit: The file is not a manifest.
    """
    path = folder / NAME
    if not path.exists():
        return {}
    try:
        earlier = json.loads(path.read_text())
        entries = {name: part for name, part in earlier["parts"].items() if name not in parts}
        session = {key: earlier[key] for key in SESSION} if entries else {}
        return {name: {"session": session, **part} for name, part in entries.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        rule = "must be the manifest of an earlier session; move it away"
        raise SystemExit(f"error: {path}: {rule}, found {error!r}") from None
