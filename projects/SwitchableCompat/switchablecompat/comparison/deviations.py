"""Results that were made with other settings than their suite asks for now. A table that holds them says so."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from ..errors import InputError
from .results import Result, other_content, other_settings
from .runs import make_job
from .suite import Suite

Deviations = Mapping[tuple[str, int], str]  # the first difference, by method and seed


def find_deviations(suite: Suite, results: Sequence[Result], places: Sequence[Path]) -> dict[tuple[str, int], str]:
    """Compare the settings and files of every result with those of its job, as :func:`~.results.finished` does.

    Nothing is refused: an error in the suite's settings counts as a difference. ``places`` are the folders of jobs and
    of results.
    """
    found = {}
    for result in results:
        try:
            job = make_job(suite, suite.method(result.method), result.seed, places[0])
            text = other_settings(result, job, places) or other_content(result, job)
        except InputError as error:
            text = str(error)
        if text:
            found[result.method, result.seed] = text
    return found


def describe_deviations(deviations: Deviations, titles: Mapping[str, str]) -> list[str]:
    """One line for each kind of difference: the rows that have it, with their seeds, and the difference itself.

    If the seeds of a method differ in the same key by other values, the line has the first seed's. ``titles`` is by
    method.
    """
    seeds: dict[tuple[str, str], list[int]] = {}
    texts: dict[tuple[str, str], str] = {}
    for (method, seed), text in deviations.items():
        row = (method, text.split()[0])  # the text begins with the key
        seeds.setdefault(row, []).append(seed)
        texts.setdefault(row, text)
    kinds: dict[str, dict[str, list[str]]] = {}
    for row, text in texts.items():
        which = f"seed{'s' * (len(seeds[row]) > 1)} {', '.join(map(str, seeds[row]))}"
        kinds.setdefault(text, {}).setdefault(which, []).append(f"'{titles[row[0]]}'")
    lines = []
    for text, rows in kinds.items():
        where = "; ".join(f"{', '.join(names)} ({which})" for which, names in rows.items())
        lines.append(f"{where}: {text}")
    return lines
