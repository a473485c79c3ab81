"""Findings of the data checks, and names of identities and cameras in them."""

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
    """One problem: its level, a short fixed ``code``, a message, and a fix."""

    level: Level
    code: str
    message: str
    fix: str


@dataclass(frozen=True)
class LabelNames:
    """Names of identities and cameras by their labels in items. Labels without a name are shown as they are."""

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
        """Join the names of several training sets, whose labels differ."""
        return cls(
            {label: name for one in names for label, name in one.pids.items()},
            {label: name for one in names for label, name in one.camids.items()},
        )

    def of_pids(self, labels: Iterable[object]) -> list[str]:
        """Sorted names of identities, without repetition."""
        return sorted({self.pid(label) for label in labels})


THEMSELVES = LabelNames()


def errors_first(findings: Iterable[Finding]) -> list[Finding]:
    """The findings by level, otherwise in the given order."""
    return sorted(findings, key=lambda finding: LEVELS.index(finding.level))


def summarise(findings: Sequence[Finding]) -> str:
    """Format findings as text: one paragraph each, and a last line with their numbers."""
    lines = [f"{finding.level}: {finding.message} [{finding.code}]\n    fix: {finding.fix}" for finding in findings]
    count = Counter(finding.level for finding in findings)
    lines.append(", ".join(f"{count[level]} {level}{'' if count[level] == 1 else 's'}" for level in LEVELS))
    return "\n".join(lines)


def raise_on_errors(findings: Sequence[Finding], subject: str = "data set") -> None:
    """Raise :class:`InputError` for the first error among the findings, with the number of further errors."""
    errors = [finding for finding in findings if finding.level == "error"]
    if errors:
        more = f" (and {len(errors) - 1} more: tools/check_dataset.py lists them)" if len(errors) > 1 else ""
        raise InputError(subject, f"{errors[0].message}; {errors[0].fix}{more}")
