"""Divides pictures into training, query and gallery."""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ..choices import ONE_PER_CAMERA
from ..errors import InputError, name_some
from .folder import Picture
from .manifest import SPLITS


@dataclass(frozen=True)
class Choice:
    """Selects images by a group of the pattern: ``GROUP=VALUE,VALUE``, or ``GROUP=@FILE`` with one value a line."""

    option: str
    group: str
    values: frozenset[str]

    @classmethod
    def parse(cls, text: str, option: str) -> Choice:
        """Parse the option.

        Raises:
            InputError: The text is invalid, or its file cannot be read.
        """
        group, separator, given = text.partition("=")
        values = given.split(",")
        if given.startswith("@"):
            try:
                with open(given[1:], encoding="utf-8-sig") as file:
                    values = file.read().splitlines()
            except (OSError, UnicodeDecodeError) as error:
                raise InputError(given[1:], "must be a readable text file with one value a line", error) from None
        chosen = frozenset(value.strip() for value in values if value.strip())
        if not separator or not group or not chosen:
            raise InputError(option, "must be GROUP=VALUE,VALUE... or GROUP=@FILE", repr(text))
        return cls(option, group.strip(), chosen)

    def of(self, pictures: Sequence[Picture]) -> list[bool]:
        """Whether each picture is selected.

        Raises:
            InputError: No pattern has this group, or a value does not occur.
        """
        known = {value for picture in pictures if (value := picture.groups.get(self.group))}
        if not known:
            groups = sorted({name for picture in pictures for name, text in picture.groups.items() if text})
            raise InputError(self.option, f"must name a group of the pattern, one of {groups}", repr(self.group))
        if lacking := sorted(self.values - known):
            rule = f"must name values of {self.group} that occur, such as {name_some(sorted(known))}"
            raise InputError(self.option, rule, name_some(lacking))
        return [picture.groups.get(self.group) in self.values for picture in pictures]


@dataclass(frozen=True)
class Draw:
    """Draws test identities at random: the ``share`` of each ``type``, the same in every run.

    ``unit`` is the group whose values are drawn as a whole: identities, or for example alphabets or sites.
    """

    share: float
    seed: int = 0
    unit: str = "pid"

    def of(self, pictures: Sequence[Picture]) -> list[bool]:
        """Whether each picture is for the test.

        Raises:
            InputError: A picture has no unit, a unit has several types, or there are too few units.
        """
        types: dict[str, str] = {}
        for picture in pictures:
            unit, kind = picture.groups.get(self.unit), picture.groups.get("type", "")
            if not unit:
                rule = f"must be a group that every image has; {picture.path} has none"
                raise InputError("--draw-by", rule, self.unit)
            if types.setdefault(unit, kind) != kind:
                rule = f"must be one for each {self.unit}; let the group {self.unit} take in the type"
                raise InputError("--pattern: type", rule, f"{types[unit]} and {kind} for {unit}")
        by_type = defaultdict(list)
        for unit, kind in types.items():
            by_type[kind].append(unit)
        tested: set[str] = set()
        before = 0
        for kind in sorted(by_type):
            # sums are rounded, not each type: the whole has the share too
            after = before + len(by_type[kind])
            count = _round(after * self.share) - _round(before * self.share)
            tested |= {*sorted(by_type[kind], key=self._lot)[:count]}
            before = after
        if not 0 < len(tested) < len(types):
            rule = f"must leave some {self.unit} for training and some for the test"
            raise InputError("--test-share", rule, f"{len(tested)} of {len(types)} for the test with {self.share}")
        return [picture.groups[self.unit] in tested for picture in pictures]

    def _lot(self, unit: str) -> bytes:
        # a random number that depends only on seed and name, in any version of Python
        return hashlib.sha256(f"{self.seed}/{unit}".encode()).digest()


def assign_splits(
    pictures: Sequence[Picture],
    test: Choice | Draw | None,
    query: Choice | int | str | None,
    only: Literal["train", "test"] | None = None,
) -> list[str]:
    """Assign a split to every picture; an empty text leaves the picture out.

    Args:
        pictures: Pictures in the order of their paths.
        test: Selects test pictures if the pattern does not.
        query: Selects queries among the test pictures if the pattern does not: a choice, a number (the first pictures
            of each identity), or ``one-per-camera`` (the first picture of each identity in each camera).
        only: Make a manifest only for evaluation or only for training.

    Raises:
        InputError: A rule is missing or has no effect, a split is empty, or an identity is in training and in test.
    """
    splits = [picture.split for picture in pictures]
    if any(splits):
        if not all(splits):
            raise InputError(pictures[splits.index("")].path, "must have a split, as other images have", "none")
        if test:
            raise InputError("--test-share or --test", "is not read where the pattern says the split")
    elif only:
        if test:
            raise InputError("--test-share or --test", f"is not read with --only {only}")
        splits = [only] * len(pictures)
    elif test:
        splits = ["test" if tested else "train" for tested in test.of(pictures)]
    else:
        raise InputError("--test-share or --test", "must be given where the pattern has no group split")
    if only:
        splits = [split if (split == "train") == (only == "train") else "" for split in splits]
    _divide_test(pictures, splits, query)
    for name in SPLITS:
        if name not in splits and (not only or (name == "train") == (only == "train")):
            raise InputError("split", f"{name} must not be empty (or --only train, --only test)", "no image")
    trained = {picture.pid for picture, split in zip(pictures, splits, strict=True) if split == "train"}
    tested = {picture.pid for picture, split in zip(pictures, splits, strict=True) if split in ("query", "gallery")}
    if both := sorted(trained & tested):
        raise InputError("split", f"{len(both)} identities are in training and in test", name_some(both))
    return splits


def _divide_test(pictures: Sequence[Picture], splits: list[str], query: Choice | int | str | None) -> None:
    """Divide ``test`` into ``query`` and ``gallery``, in place."""
    places = [index for index, split in enumerate(splits) if split == "test"]
    if query is None and places:
        raise InputError("--query", "must say which test images are queries: GROUP=VALUE, a number, or one-per-camera")
    if query is not None and not places:
        raise InputError("--query", "is not read: there are no test images to divide", "no image")
    tested = [pictures[index] for index in places]
    if isinstance(query, Choice):
        asked = query.of(tested) if tested else []
    else:
        if query == ONE_PER_CAMERA and not all(picture.camid for picture in tested):
            raise InputError("--query", "needs a group camid in the pattern", ONE_PER_CAMERA)
        seen: dict[tuple[str, str], int] = defaultdict(int)
        asked = []
        for picture in tested:
            key = (picture.pid, picture.camid if query == ONE_PER_CAMERA else "")
            asked.append(seen[key] < (query if isinstance(query, int) else 1))
            seen[key] += 1
    for index, is_query in zip(places, asked, strict=True):
        splits[index] = "query" if is_query else "gallery"


def _round(value: float) -> int:
    return math.floor(value + 0.5)
