"""Checks of several training sets. FastReID concatenates their items and counts identities."""

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence

from switchablecompat.errors import name_some

from .findings import THEMSELVES, Finding, Item, LabelNames
from .paths import real_paths

TrainingSets = Sequence[tuple[str, Sequence[Item]]]  # names in order, repeated if a set is trained twice, with items
NAMES_APART = "give training items names that start with the data set's, as FastReID's own do: market1501_12"


def check_training_sets(sets: TrainingSets, names: LabelNames = THEMSELVES) -> list[Finding]:
    """Findings on training sets that are trained together.

    Identities and cameras of two sets are the same if their labels are equal. People of two data sets would then
    silently become one class.
    """
    real = real_paths(item[0] for _, items in sets for item in items)
    return [*_repeated_files(sets, real, names), *_shared_labels(sets, real)]


def _repeated_files(sets: TrainingSets, real: Mapping[str, str], names: LabelNames) -> Iterator[Finding]:
    times = Counter(real[item[0]] for _, items in sets for item in items)
    repeated = [path for path, count in times.items() if count > 1]
    if repeated:
        message = f"{len(repeated)} training files are listed more than once: {name_some(repeated)}"
        yield Finding("warning", "repeated-train-files", message, "name every training set once: they count double")
    several = []
    for _, items in sets if repeated else ():
        people = defaultdict[str, set[object]](set)
        for path, pid, _ in items:
            people[real[path]].add(pid)
        several += [f"{path} ({', '.join(names.of_pids(pids))})" for path, pids in people.items() if len(pids) > 1]
    if several:
        message = f"{len(several)} training files are listed under several identities: {name_some(several)}"
        yield Finding("warning", "file-of-two-identities", message, "correct the labels, or leave the files out")


def _shared_labels(sets: TrainingSets, real: Mapping[str, str]) -> Iterator[Finding]:
    kinds = {type(label).__name__ for _, items in sets for item in items for label in item[1:3]}
    if len(kinds) > 1:
        message = f"labels of training items are of several types ({', '.join(sorted(kinds))}), which cannot be sorted"
        yield Finding("error", "mixed-train-labels", message, NAMES_APART)
    for (one, items), (other, more) in itertools.combinations(sets, 2):
        files = {real[item[0]] for item in items}
        new = [item for item in more if real[item[0]] not in files]  # otherwise it is the same data, named twice
        for column, what in ((1, "identities"), (2, "cameras")):
            shared = sorted({item[column] for item in items} & {item[column] for item in new}, key=str)
            if shared:
                message = f"{len(shared)} {what} of {one} have the labels of others in {other}: {name_some(shared)}"
                yield Finding("error", f"shared-train-{what}", message, NAMES_APART)
