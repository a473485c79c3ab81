"""What all tables share: reading JSON, GitHub's form of a table, and the line of provenance."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tabulate import tabulate


def read(path: Path) -> Any:
    """The content of a JSON file."""
    return json.loads(path.read_text())


def table(headers: Sequence[str], rows: Sequence[Sequence[object]], note: str = "", **options: Any) -> str:
    """A table with a note below. Cells are texts, or numbers with the option ``floatfmt``."""
    options.setdefault("disable_numparse", "floatfmt" not in options)
    text = tabulate(rows, headers, tablefmt="github", **options)
    return f"{text}\n\n({note})" if note else text


def made_with(content: Mapping[str, Any]) -> str:
    """One line of provenance: data, method, seed, hardware and versions of a grid."""
    versions, machine = content["versions"], content["hardware"]
    return (
        f"{content['dataset']}, {content['method']}, seed {content['seed']}; {machine['gpu'] or machine['cpu']}, "
        f"{machine['cores']} cores; Python {versions['python']}, torch {versions['torch']}, "
        f"FastReID {versions['fastreid']}"
    )
