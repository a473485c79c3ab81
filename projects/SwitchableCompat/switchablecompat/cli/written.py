"""How a command that measures something leaves its result."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..files import write_texts


def write_measured(output: str, stem: str, content: dict[str, Any], text: str) -> None:
    """Write ``<stem>.json`` and ``<stem>.md`` to the folder ``output``, and print the table."""
    folder = Path(output)
    write_texts(folder, {f"{stem}.json": json.dumps(content, indent=2) + "\n", f"{stem}.md": text})
    print(f"\n{text}\nWritten: {folder}/{stem}.json, {folder}/{stem}.md")
