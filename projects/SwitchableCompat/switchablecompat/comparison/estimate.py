"""How long the rest of a suite takes."""

from __future__ import annotations

from collections.abc import Sequence


class Estimate:
    """Time left, from the tasks that are finished: the mean of the same kind, else of all."""

    def __init__(self) -> None:
        self._seconds: dict[str, list[float]] = {}

    def add(self, kind: str, seconds: float) -> None:
        """Note a finished task; its kind is what tasks that take as long have in common."""
        self._seconds.setdefault(kind, []).append(seconds)

    def left(self, kinds: Sequence[str], spent: Sequence[float] = (), jobs: int = 1) -> float | None:
        """Seconds for tasks of these kinds, ``jobs`` at once; None while nothing is finished.

        Args:
            kinds: Those of the tasks that are at work first, then of those that wait.
            spent: Seconds that each of the tasks at work has taken so far.
            jobs: How many run at once.
        """
        everything = [value for values in self._seconds.values() for value in values]
        if not everything:
            return None
        means = [self._mean(self._seconds.get(kind, everything)) for kind in kinds]
        done = [min(mean, seconds) for mean, seconds in zip(means, spent, strict=False)]
        return (sum(means) - sum(done)) / max(1, min(jobs, len(kinds)))

    @staticmethod
    def _mean(values: Sequence[float]) -> float:
        return sum(values) / len(values)


def format_seconds(seconds: float) -> str:
    """A duration for the eye."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"
