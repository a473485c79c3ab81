"""The result of a benchmark: one JSON, from which the tables are made."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure

from switchablecompat.files import atomic_write
from switchablecompat.provenance import hardware, versions

from .timing import Row

FORMAT = 1


def record(name: str, command: str, settings: Mapping[str, Any], rows: Sequence[Row], **more: Any) -> dict[str, Any]:
    """The content of a benchmark's JSON. ``more`` holds series and notes in addition to the rows."""
    return {
        "format": FORMAT,
        "name": name,
        "command": command,
        "settings": {**settings, "threads": torch.get_num_threads()},
        "rows": [asdict(row) for row in rows],
        **more,
        "hardware": hardware(),
        "versions": versions(),
    }


def render(records: Sequence[Mapping[str, Any]]) -> str:
    """All rows as one Markdown table."""
    lines = ["| | ours | against | theirs | ratio (quartiles) | target |", "| --- | ---: | --- | ---: | ---: | ---: |"]
    for content in records:
        for row in content["rows"]:
            target = "" if row["target"] is None else f"≤ {row['target']:g}"
            spread = "" if row["low"] == row["high"] else f" ({row['low']:.3f} to {row['high']:.3f})"
            lines.append(
                f"| {row['name']} | {_amount(row['ours'], row['unit'])} | {row['peer']} "
                f"| {_amount(row['theirs'], row['unit'])} | **{row['ratio']:.3f}**{spread} | {target} |"
            )
    return "\n".join(lines)


def describe(records: Sequence[Mapping[str, Any]]) -> str:
    """One line: hardware, versions, commands."""
    machines = {f"{c['hardware']['gpu'] or c['hardware']['cpu']}, {c['settings']['threads']} threads" for c in records}
    packages = {", ".join(f"{key} {value}" for key, value in c["versions"].items()) for c in records}
    commands = "; ".join(f"`{c['command']}`" for c in records)
    return f"(hardware: {'; '.join(sorted(machines))}; versions: {'; '.join(sorted(packages))}; {commands})"


def draw_growth(seconds: Mapping[int, float], path: Path) -> None:
    """Plot seconds over the size of the gallery, and linear growth from the first point for comparison."""
    figure = Figure(figsize=(5, 3.4), layout="constrained")
    axes = figure.subplots()
    sizes = sorted(seconds)
    axes.plot(sizes, [seconds[size] for size in sizes], "o-", label="measured")
    axes.plot([0, sizes[-1]], [0, seconds[sizes[0]] / sizes[0] * sizes[-1]], "--", color="grey", label="linear")
    axes.set(xlabel="gallery items", ylabel="seconds for 1,000 queries", xlim=(0, None), ylim=(0, None))
    axes.legend()
    with atomic_write(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)


def _amount(value: float, unit: str) -> str:
    if unit == "s" and value < 1:
        return f"{1000 * value:.1f} ms"
    return f"{value:.2f} {unit}"
