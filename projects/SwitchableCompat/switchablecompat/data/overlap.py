"""Finds overlap between training, query and gallery images: by file, by identity and by content."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from switchablecompat.errors import name_some

from .findings import THEMSELVES, Finding, Item, LabelNames
from .paths import real_paths

MOVE = "move them to one side: the score would measure memory"


def check_copies(query: Sequence[Item], gallery: Sequence[Item]) -> Iterator[Finding]:
    """Check for query images that are also in the gallery. Every model finds them, so the score is meaningless."""
    real = real_paths(item[0] for item in [*query, *gallery])
    listed = defaultdict(list)
    for item in gallery:
        listed[real[item[0]]].append(item)
    pairs = [(item, other) for item in query for other in listed.get(real[item[0]], ())]
    counted = [item[0] for item, other in pairs if item[1:3] != other[1:3]]
    if counted:
        message = f"{len(counted)} query files are also in the gallery, with another pid or camid: {name_some(counted)}"
        yield Finding("warning", "query-in-gallery", message, "take them out of the gallery: each finds itself")
    if len(counted) < len(pairs):
        message = f"{len(pairs) - len(counted)} query files are also in the gallery, with the same pid and camid"
        yield Finding("note", "query-in-gallery-ignored", message, "nothing: the protocol leaves them out")


def check_overlap(
    train: Sequence[Item], test: Sequence[Item], prefix: str | None, names: LabelNames, literal: bool
) -> Iterator[Finding]:
    """Check for test identities that are trained, and for files in both sets.

    ``prefix`` is that of :func:`~.opening.train_prefix`; ``literal``: equal labels mean equal identities.
    """
    trained = {item[1] for item in train}
    both_named = {pid for _, pid, _ in test if (literal and pid in trained) or _labels(pid, prefix) & trained}
    if both_named:
        message = f"{len(both_named)} identities are in training and in test: {name_some(names.of_pids(both_named))}"
        yield Finding("warning", "identities-shared", message, MOVE)
    real = real_paths(item[0] for item in [*train, *test])
    files = {real[item[0]] for item in train}
    both = [item[0] for item in test if real[item[0]] in files]
    if both:
        message = f"{len(both)} test files are also training files: {name_some(both)}"
        yield Finding("warning", "files-shared", message, MOVE)


def _labels(pid: object, prefix: str | None) -> set[str]:
    """Label in training items of an identity of the test items. With DATASETS.COMBINEALL it is a separate identity."""
    return {f"{prefix}_{pid}", f"{prefix}_test_{pid}"} if prefix else set()


def check_contents(
    train: Sequence[Item] | None,
    query: Sequence[Item],
    gallery: Sequence[Item],
    contents: Mapping[str, bytes],
    names: LabelNames = THEMSELVES,
) -> list[Finding]:
    """Findings on test pictures with identical pixels, whatever their file names.

    Args:
        train: training items, or None to skip the comparison.
        query, gallery: test items, with the names of their identities.
        contents: digests of the pixels of all readable images, by path (see :func:`~.check.check_images`).
    """
    real = real_paths(item[0] for item in [*(train or ()), *query, *gallery])
    found = list(check_labels_of_contents([*query, *gallery], contents, names, "test"))
    for code, what, whose, items, others, fix in (
        ("query-copy-in-gallery", "query", "gallery", query, gallery, "take the copies out of the gallery"),
        ("contents-shared", "test", "training", [*query, *gallery], train or (), MOVE),
    ):
        first = {contents[path]: path for path, *_ in reversed(others) if path in contents}
        pairs = [(item[0], first.get(contents.get(item[0], b""))) for item in items]
        twins = [f"{path} = {other}" for path, other in pairs if other and real[other] != real[path]]
        if twins:
            message = f"{len(twins)} {what} images have the content of a {whose} image of another name: "
            found.append(Finding("warning", code, message + name_some(twins), fix))
    return found


def check_labels_of_contents(
    items: Sequence[Item], contents: Mapping[str, bytes], names: LabelNames = THEMSELVES, what: str = "training"
) -> Iterator[Finding]:
    """Finding on pictures with identical pixels and different identities: at least one label is wrong."""
    people = defaultdict[bytes, dict[object, str]](dict)
    for path, pid, _ in items:
        if path in contents:
            people[contents[path]].setdefault(pid, path)
    several = [
        " = ".join(f"{path} (identity {names.pid(pid)})" for pid, path in one.items())
        for one in people.values()
        if len(one) > 1
    ]
    if several:
        message = f"{len(several)} {what} pictures have several identities: {name_some(several)}"
        yield Finding("warning", "content-of-two-identities", message, "correct the labels, or leave the pictures out")
