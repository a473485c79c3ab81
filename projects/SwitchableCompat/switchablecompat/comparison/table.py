"""The numbers of the comparison, from results alone: cells and measures over seeds, paired differences.

``value[seed]`` maps a seed to a number, or to None if it is not defined. In pairs of sub-models *old* is the smaller
and *new* the larger one: the small model encoded the gallery, and the large one encodes the queries.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from itertools import chain
from typing import Any

from ..errors import InputError
from ..evaluation.grid import mean_defined
from ..widths import width_name
from .deviations import Deviations, describe_deviations
from .results import Result
from .statistics import (
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
OTHER = "†"  # marks the title of a method with results of other settings


class Comparison:
    """All results of a suite, at least one, side by side. Methods and seeds may be missing.

    ``deviations`` are those results of other settings than the suite's that the tables are to name.

    Raises:
        InputError: results of different widths or data sets, which cannot share a table.
    """

    def __init__(self, suite: Suite, results: Sequence[Result], deviations: Deviations | None = None) -> None:
        self.suite = suite
        self.results = list(results)
        first = self.results[0]
        for result in self.results:
            for what in ("widths", "dataset"):
                ours, theirs = getattr(first.grid, what), getattr(result.grid, what)
                if ours != theirs:
                    where = f"result of {result.method} seed {result.seed}: {what}"
                    raise InputError(where, f"must be {ours} as in the other results", theirs)
        self.widths = first.grid.widths
        self.names = first.grid.names
        found = {result.method for result in self.results}
        titles = {method.name: method.title for method in suite.methods if method.name in found}
        self.deviations = describe_deviations(deviations or {}, titles)
        marked = {method for method, _ in deviations or {}}
        self.titles = {method: title + (OTHER if method in marked else "") for method, title in titles.items()}
        self.methods = list(self.titles)

    @property
    def baselines(self) -> list[str]:
        """All methods except ours; empty if there are no results of ours."""
        ours = self.suite.ours
        return [method for method in self.methods if method != ours] if ours in self.methods else []

    def of(self, method: str) -> dict[int, Result]:
        """The results of one method, by seed."""
        return {result.seed: result for result in self.results if result.method == method}

    def cell(self, method: str, q: int, g: int, metric: str = "mAP") -> BySeed:
        """One cell's value per seed. ``metric`` may also be ``negative_flips``."""
        cells = {
            seed: result.negative_flips if metric == "negative_flips" else result.grid.values[metric]
            for seed, result in self.of(method).items()
        }
        return {seed: matrix[q][g] for seed, matrix in cells.items()}

    def spread(self, method: str, q: int, g: int, metric: str = "mAP") -> Spread | None:
        """One cell over the seeds."""
        return spread([*self.cell(method, q, g, metric).values()])

    def difference(self, baseline: str, q: int, g: int, metric: str = "mAP") -> Difference | None:
        """Ours minus the baseline in one cell, paired by seed."""
        ours, theirs = (self.cell(method, q, g, metric) for method in (self.suite.ours, baseline))
        return paired_difference(ours, theirs, self.suite.test_per_train)

    def mean_difference(self, baseline: str) -> Difference | None:
        """Ours minus the baseline in mAP, paired by seed, in the mean of all cells that both define."""
        means: dict[int, Value] = {}
        for seed, result in self.of(self.suite.ours).items():
            if (theirs := self.of(baseline).get(seed)) is not None:
                pairs = zip(chain(*result.grid.values["mAP"]), chain(*theirs.grid.values["mAP"]), strict=True)
                means[seed] = mean_defined([a - b for a, b in pairs if a is not None and b is not None])
        return paired_difference(means, dict.fromkeys(means, 0.0), self.suite.test_per_train)

    @cached_property
    def measures(self) -> dict[str, Callable[[Result], Value]]:
        """All summary measures by name, as functions of one result."""
        ends = f"{self.names[0]} to {self.names[-1]}"

        def of_grid(key: str) -> Callable[[Result], Value]:
            return lambda result: result.grid.compatibility()[key]

        measures: dict[str, Callable[[Result], Value]] = {
            "AC": of_grid("AC"),
            "cross-tests judged": of_grid("judged_cells"),
            "AM": of_grid("AM"),
            "mean self-test": of_grid("mean_self"),
            "mean cross-test": of_grid("mean_cross"),
            "self-tests minus independent": self._self_minus_independent,
            "negative flips": lambda result: mean_defined([v for row in result.negative_flips for v in row]),
        }
        if len(self.widths) > 1:
            measures |= {
                f"update gain, {ends}": lambda result: self._gain(result, 0, len(self.widths) - 1),
                "update gain, mean of pairs": self._mean_gain,
                **{f"{name}, {ends}": self._score(name) for name in ("P_up", "P_comp", "P_1")},
            }
        return measures | {"training minutes": lambda result: result.timing["train_seconds"] / 60}

    def summary(self, method: str, name: str) -> Spread | None:
        """One summary measure over the seeds."""
        return spread([self.measures[name](result) for result in self.of(method).values()])

    def independent(self, seed: int, i: int) -> Value:
        """``M*(i)``: the self-test of the independently trained model of this width and seed."""
        result = self.of(self.suite.independent).get(seed)
        return None if result is None else result.grid[i, i]

    def _self_minus_independent(self, result: Result) -> Value:
        pairs = [(own, self.independent(result.seed, i)) for i, own in enumerate(result.grid.self_tests())]
        return mean_defined([own - alone for own, alone in pairs if own is not None and alone is not None])

    def _gain(self, result: Result, old: int, new: int) -> Value:
        return update_gain(result.grid[new, old], result.grid[old, old], self.independent(result.seed, new))

    def _mean_gain(self, result: Result) -> Value:
        return mean_defined([self._gain(result, *pair) for pair in itertools.combinations(range(len(self.widths)), 2)])

    def _score(self, name: str) -> Callable[[Result], Value]:
        def score(result: Result) -> Value:
            new, grid = len(self.widths) - 1, result.grid
            alone = self.independent(result.seed, new)
            return compatibility_scores(grid[new, 0], grid[0, 0], grid[new, new], alone)[name]

        return score

    def header(self) -> dict[str, str]:
        """Facts for the head of the tables: data set, seeds, hardware, versions."""
        seeds = sorted({result.seed for result in self.results})
        made_on = [one for result in self.results for one in result.made_on]
        machines = {_machine(one["hardware"]) for one in made_on}
        versions = {", ".join(f"{k} {v}" for k, v in one["versions"].items()) for one in made_on}
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


def _machine(hardware: Mapping[str, Any]) -> str:
    return f"{hardware['gpu'] or hardware['cpu']}, {hardware['cores']} CPU cores"
