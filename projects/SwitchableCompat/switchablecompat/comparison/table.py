"""The numbers of the comparison, from results alone: cells and measures over seeds, paired differences.

``value[seed]`` maps a seed to a number, or to None if it is not defined. In pairs of sub-models *old* is the smaller
and *new* the larger one: the small model encoded the gallery, and the large one encodes the queries.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from functools import cached_property

from ..errors import InputError
from ..widths import width_name
from .results import Result
from .statistics import (
    CompatibilityScores,
    Difference,
    Spread,
    Value,
    compatibility_scores,
    paired_difference,
    spread,
    update_gain,
)
from .suite import Suite

BySeed = dict[int, Value]


class Comparison:
    """All results of a suite, side by side.

    Args:
        suite: the order of the methods, our method, and the independent one.
        results: at least one. Methods and seeds may be missing.

    Raises:
        InputError: results of different widths or data sets, which cannot share a table.
    """

    def __init__(self, suite: Suite, results: Sequence[Result]) -> None:
        self.suite = suite
        self.results = list(results)
        first = self.results[0]
        for result in self.results:
            where = f"result of {result.method} seed {result.seed}"
            for what, ours, theirs in (
                ("widths", first.grid.widths, result.grid.widths),
                ("data set", first.grid.dataset, result.grid.dataset),
            ):
                if ours != theirs:
                    raise InputError(f"{where}: {what}", f"must be {ours} as in the other results", theirs)
        self.widths = first.grid.widths
        self.names = first.grid.names
        found = {result.method for result in self.results}
        self.titles = {method.name: method.title for method in suite.methods if method.name in found}
        self.methods = list(self.titles)

    @property
    def baselines(self) -> list[str]:
        """All methods except ours."""
        if self.suite.ours not in self.methods:
            return []
        return [method for method in self.methods if method != self.suite.ours]

    def of(self, method: str) -> dict[int, Result]:
        """The results of one method, by seed."""
        return {result.seed: result for result in self.results if result.method == method}

    def cell(self, method: str, q: int, g: int, metric: str = "mAP") -> BySeed:
        """One cell's value per seed. ``metric`` may also be ``negative_flips``."""
        if metric == "negative_flips":
            return {seed: result.negative_flips[q][g] for seed, result in self.of(method).items()}
        return {seed: result.grid.values[metric][q][g] for seed, result in self.of(method).items()}

    def spread(self, method: str, q: int, g: int, metric: str = "mAP") -> Spread | None:
        """One cell over the seeds."""
        return spread([*self.cell(method, q, g, metric).values()])

    def difference(self, baseline: str, q: int, g: int, metric: str = "mAP") -> Difference | None:
        """Ours minus the baseline in one cell, paired by seed."""
        return paired_difference(self.cell(self.suite.ours, q, g, metric), self.cell(baseline, q, g, metric))

    @cached_property
    def measures(self) -> dict[str, Callable[[Result], Value]]:
        """All summary measures by name, as functions of one result."""
        ends = f"{self.names[0]} to {self.names[-1]}"
        measures: dict[str, Callable[[Result], Value]] = {
            "AC": lambda result: result.grid.compatibility()["AC"],
            "cross-tests judged": lambda result: result.grid.compatibility()["judged_cells"],
            "AM": lambda result: result.grid.compatibility()["AM"],
            "mean self-test": lambda result: result.grid.compatibility()["mean_self"],
            "mean cross-test": lambda result: result.grid.compatibility()["mean_cross"],
            "self-tests minus independent": self._self_minus_independent,
            "negative flips": lambda result: _mean([v for row in result.negative_flips for v in row]),
        }
        if len(self.widths) > 1:
            measures |= {
                f"update gain, {ends}": lambda result: self._gain(result, 0, len(self.widths) - 1),
                "update gain, mean of pairs": self._mean_gain,
                f"P_up, {ends}": lambda result: self._scores(result).p_up,
                f"P_comp, {ends}": lambda result: self._scores(result).p_comp,
                f"P_1, {ends}": lambda result: self._scores(result).p_1,
            }
        return measures | {"training minutes": lambda result: result.timing["train_seconds"] / 60}

    def measure(self, method: str, name: str) -> BySeed:
        """One summary measure per seed."""
        return {seed: self.measures[name](result) for seed, result in self.of(method).items()}

    def summary(self, method: str, name: str) -> Spread | None:
        """One summary measure over the seeds."""
        return spread([*self.measure(method, name).values()])

    def independent(self, seed: int, i: int) -> Value:
        """``M*(i)``: the self-test of the independently trained model of this width and seed."""
        result = self.of(self.suite.independent).get(seed)
        return None if result is None else result.grid[i, i]

    def _self_minus_independent(self, result: Result) -> Value:
        pairs = [(own, self.independent(result.seed, i)) for i, own in enumerate(result.grid.self_tests())]
        return _mean([own - alone for own, alone in pairs if own is not None and alone is not None])

    def _gain(self, result: Result, old: int, new: int) -> Value:
        return update_gain(result.grid[new, old], result.grid[old, old], self.independent(result.seed, new))

    def _mean_gain(self, result: Result) -> Value:
        return _mean([self._gain(result, *pair) for pair in itertools.combinations(range(len(self.widths)), 2)])

    def _scores(self, result: Result) -> CompatibilityScores:
        new, grid = len(self.widths) - 1, result.grid
        return compatibility_scores(grid[new, 0], grid[0, 0], grid[new, new], self.independent(result.seed, new))

    def header(self) -> dict[str, str]:
        """Facts for the head of the tables: data set, seeds, hardware, versions."""
        seeds = sorted({result.seed for result in self.results})
        machines = {f"{r.hardware['gpu'] or r.hardware['cpu']}, {r.hardware['cores']} CPU cores" for r in self.results}
        versions = {", ".join(f"{k} {v}" for k, v in r.grid.metadata.get("versions", {}).items()) for r in self.results}
        codes = sorted({digest for result in self.results for digest in result.code})
        code = ", ".join(f"{digest[:19]}..." for digest in codes)
        return {
            "Data set": f"{self.results[0].grid.dataset}. {self.suite.dataset}".strip(". ") + ".",
            "Seeds": ", ".join(map(str, seeds)),
            "Widths": ", ".join(f"{width_name(w)} = {w}" for w in self.widths),
            "Hardware": "; ".join(sorted(machines)),
            "Versions": "; ".join(sorted(versions)),
            "Code": code if len(codes) == 1 else f"**made by {len(codes)} different states of the code**: {code}",
        }


def _mean(values: Sequence[Value]) -> Value:
    defined = [value for value in values if value is not None]
    return sum(defined) / len(defined) if defined else None
