"""The one error type for bad input, and the exit code that goes with it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any


class InputError(ValueError):
    """Bad input from the user: one line that names the key or file, the rule, and the value found.

    Example:
        >>> raise InputError("MODEL.SWITCHABLE.WIDTHS", "must be ascending and end in 1.0", [0.5, 0.25])
        Traceback (most recent call last):
        ...
        switchablecompat.errors.InputError: MODEL.SWITCHABLE.WIDTHS: must be ascending and end in 1.0, found [0.5, 0.25]
    """

    def __init__(self, subject: object, rule: str | None = None, found: object = None) -> None:
        self.subject, self.rule, self.found = str(subject), rule, found
        if rule is None:  # torch rebuilds a DataLoader worker's error from its traceback: keep the line that matters
            self.subject = self.subject.rsplit(f"{type(self).__name__}: ", 1)[-1].strip()
            super().__init__(self.subject)
            return
        super().__init__(f"{subject}: {rule}" + ("" if found is None else f", found {found}"))

    def __reduce__(
        self,
    ) -> tuple[Any, ...]:  # several positional arguments: the default would not survive a process boundary
        return type(self), (self.subject, self.rule, self.found)


def name_some(names: Sequence[object], limit: int = 3) -> str:
    """The first ``limit`` names, and the number of the others, for a message."""
    shown = ", ".join(str(name) for name in names[:limit])
    return shown + (f" and {len(names) - limit} more" if len(names) > limit else "")


def exit_on_input_error(main: Callable[[], int | None]) -> None:
    """Run ``main`` as a command: exit 0 on success, 2 with one ``error:`` line on :class:`InputError`; Ctrl-C: 130."""
    try:
        code = main()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        code = 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        code = 130
    sys.exit(code or 0)
