"""What the checks of data sets find, and how they name identities and cameras."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from switchablecompat.errors import InputError

Item = tuple[str, Any, Any]  # FastReID's: path, identity, camera

Level = Literal["error", "warning", "note"]
LEVELS: tuple[Level, ...] = ("error", "warning", "note")


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong: how bad, a short fixed ``code``, what was found, and what to do about it."""

    level: Level
    code: str
    message: str
    fix: str


@dataclass(frozen=True)
class LabelNames:
    """What people call the identities and cameras of items; labels that are not in it are called by themselves.

    Attributes:
        pids: names of identities by their labels in items.
        camids: names of cameras.
    """

    pids: Mapping[Any, str] = field(default_factory=dict)
    camids: Mapping[Any, str] = field(default_factory=dict)

    def pid(self, label: object) -> str:
        """The name of an identity."""
        return self.pids.get(label, str(label))

    def camid(self, label: object) -> str:
        """The name of a camera."""
        return self.camids.get(label, str(label))

    @classmethod
    def of_several(cls, names: Sequence[LabelNames]) -> LabelNames:
        """Those of training items of several data sets, whose labels are different in each."""
        pids, camids = ({k: v for one in kind for k, v in one.items()} for kind in
                        ([one.pids for one in names], [one.camids for one in names]))  # fmt: skip
        return cls(pids, camids)

    def of_pids(self, labels: Iterable[object]) -> list[str]:
        """The names of identities, each once, sorted."""
        return sorted({self.pid(label) for label in labels})


THEMSELVES = LabelNames()


def summarise(findings: Sequence[Finding]) -> str:
    """The findings as text, one paragraph each, and their numbers in the last line."""
    lines = [f"{finding.level}: {finding.message} [{finding.code}]\n    fix: {finding.fix}" for finding in findings]
    count = Counter(finding.level for finding in findings)
    lines.append(", ".join(f"{count[level]} {level}{'' if count[level] == 1 else 's'}" for level in LEVELS))
    return "\n".join(lines)


def raise_on_errors(findings: Sequence[Finding], subject: str = "data set") -> None:
    """Raise :class:`InputError` for the first finding that is an error, with the number of the further ones."""
    errors = [finding for finding in findings if finding.level == "error"]
    if errors:
        more = f" (and {len(errors) - 1} more: tools/check_dataset.py lists them)" if len(errors) > 1 else ""
        raise InputError(subject, f"{errors[0].message}; {errors[0].fix}{more}")
