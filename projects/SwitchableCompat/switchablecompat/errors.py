"""The one error type for bad input, the exit code that goes with it, and the one line for what a machine refuses."""

from __future__ import annotations

import errno
import locale
import os
import re
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
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


OF_SYSTEM = re.compile(r"\[Errno (\d+)\] ([^\n]*)")  # also in what a loader's process or a library makes of it
FULL = ("no space left on device", "file write failed", "writer failed writing", "inline_container.cc")  # last: torch
OPEN_FILES = ("too many open files", "items of ancdata")  # the latter: torch, of tensors that come from a process
ENOUGH_FILES = 65536
MEMORY = ("can't allocate memory", "out of memory")


def machine_trouble(error: BaseException) -> str | None:
    """One line for what is neither the input's nor the program's fault: disks, open files, memory, text; else None."""
    if error.__cause__ is not None and (line := machine_trouble(error.__cause__)):
        return line
    if isinstance(error, UnicodeError):
        rule = f"must be UTF-8, and this locale ({locale.getpreferredencoding(False)}) must have its letters"
        return str(InputError("text", rule, _first_line(error)))
    if isinstance(error, MemoryError):
        return str(InputError("memory", "must hold a batch: lower the batch size", _first_line(error) or None))
    if isinstance(error, FloatingPointError):
        return str(InputError("training", "must stay within finite numbers: lower SOLVER.BASE_LR", _first_line(error)))
    if not isinstance(error, OSError | RuntimeError):
        return None
    text = str(error)
    low = text.lower()
    found = OF_SYSTEM.findall(text)
    number, reason = (int(found[-1][0]), found[-1][1]) if found else (None, _first_line(error))
    if isinstance(error, OSError) and error.errno is not None:
        number = error.errno
    if number in (errno.EMFILE, errno.ENFILE) or any(sign in low for sign in OPEN_FILES):
        return str(InputError("open files", "must be allowed in greater number (ulimit -n)", reason))
    name = error.filename if isinstance(error, OSError) and error.filename else "files"
    if number in (errno.ENOSPC, errno.EDQUOT) or any(sign in low for sign in FULL):
        return str(InputError(name, "must have room on their disk" if name == "files" else "must have room", reason))
    if any(sign in low for sign in MEMORY):
        return str(InputError("memory", "must hold a batch: lower the batch size", _first_line(error)))
    if number is not None and isinstance(error, OSError):
        return str(InputError(name, "must be readable, or writable", reason))
    return None


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0]


def _allow_open_files() -> None:
    """Ask for more open files than the usual 1024: each tensor from a loader's process is one while it lives."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = ENOUGH_FILES if hard == resource.RLIM_INFINITY else min(hard, ENOUGH_FILES)
    if soft != resource.RLIM_INFINITY and soft < most:
        with suppress(ValueError, OSError):  # some systems have a lower limit for all, which they do not tell
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def exit_on_input_error(main: Callable[[], int | None]) -> None:
    """Run ``main`` as a command: exit 0 on success, 2 with one ``error:`` line on :class:`InputError`; Ctrl-C: 130.

    What the machine refuses (:func:`machine_trouble`) is one line too. A reader that has gone (``| head``) is no error.
    """
    _allow_open_files()
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # names of files may have what the terminal's encoding has not
            stream.reconfigure(errors="backslashreplace")
    try:
        code = main()
        sys.stdout.flush()  # a full disk shows here at the latest
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        code = 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        code = 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the interpreter's last flush complains
        code = 141
    except Exception as error:
        line = machine_trouble(error)
        if line is None:
            raise
        print(f"error: {line}", file=sys.stderr)
        code = 2
    sys.exit(code or 0)
