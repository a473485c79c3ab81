"""Options of all parts."""

import argparse
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Options:
    """The options of a part."""

    seconds: float  # that the part may take from its start
    output: Path  # file of its results
    scratch: Path  # a folder that is deleted at the end
    dry_run: bool  # tiny numbers, on the CPU
    start: float  # on the clock of time.monotonic

    @property
    def device(self) -> str:
        """The device of the computations."""
        return "cpu" if self.dry_run else "cuda"

    def left(self) -> float:
        """Seconds left for the part."""
        return self.seconds - (time.monotonic() - self.start)


def read_options(description: str | None) -> Options:
    """Read the options from the command line."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--scratch", type=Path, required=True)
    parser.add_argument("--dry-run", action="store_true")
    return Options(**vars(parser.parse_args()), start=time.monotonic())
