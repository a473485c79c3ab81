"""Options that all parts have."""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Options:
    """What a part is asked for.

    Attributes:
        seconds: That it may take, from its start.
        output: Its file.
        scratch: A folder that is deleted at the end.
        dry_run: Tiny numbers, on the CPU.
        start: Of the part, on the clock of ``time.monotonic``.
    """

    seconds: float
    output: Path
    scratch: Path
    dry_run: bool
    start: float

    @property
    def device(self) -> str:
        """Where the work runs."""
        return "cpu" if self.dry_run else "cuda"

    def left(self) -> float:
        """Seconds that are left."""
        return self.seconds - (time.monotonic() - self.start)


def read_options(description: str | None) -> Options:
    """From the command line."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--scratch", type=Path, required=True)
    parser.add_argument("--dry-run", action="store_true")
    return Options(**vars(parser.parse_args()), start=time.monotonic())
