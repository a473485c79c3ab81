"""The error type for bad input, its exit code, and one-line messages for failures of the machine."""

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
        if rule is None:  # torch rebuilds a DataLoader worker's error from its traceback: keep only the message line
            self.subject = self.subject.rsplit(f"{type(self).__name__}: ", 1)[-1].strip()
            super().__init__(self.subject)
            return
        super().__init__(f"{subject}: {rule}" + ("" if found is None else f", found {found}"))

    def __reduce__(self) -> tuple[Any, ...]:
        # The default cannot pass several positional arguments to another process.
        return type(self), (self.subject, self.rule, self.found)


def name_some(names: Sequence[object], limit: int = 3) -> str:
    """The first ``limit`` names and the number of the others, for a message."""
    shown = ", ".join(str(name) for name in names[:limit])
    return shown + (f" and {len(names) - limit} more" if len(names) > limit else "")


OF_SYSTEM = re.compile(r"\[Errno (\d+)\] ([^\n]*)")  # also when a loader's process or a library has wrapped the error
FULL = ("no space left on device", "file write failed", "writer failed writing", "inline_container.cc")  # last: torch's
OPEN_FILES = ("too many open files", "items of ancdata")  # the latter: torch's, for tensors from another process
ENOUGH_FILES = 65536
MEMORY = ("can't allocate memory", "out of memory")


def machine_trouble(error: BaseException) -> str | None:
    """One line for a failure of the machine (disk, open files, memory, text encoding); None for other errors."""
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
    name = (error.filename2 or error.filename or "files") if isinstance(error, OSError) else "files"
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
    """Raise the limit of open files above the usual 1024: each live tensor from a loader's process holds one."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = ENOUGH_FILES if hard == resource.RLIM_INFINITY else min(hard, ENOUGH_FILES)
    if soft != resource.RLIM_INFINITY and soft < most:
        with suppress(ValueError, OSError):  # some systems have a lower global limit that they do not report
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def exit_on_input_error(main: Callable[[], int | None]) -> None:
    """Run ``main`` as a command and exit: 0 on success, 2 with one ``error:`` line on :class:`InputError`, Ctrl-C: 130.

    A failure of the machine (:func:`machine_trouble`) gives one line too. A closed pipe (``| head``) is no error.
    """
    _allow_open_files()
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # file names may hold characters that the terminal's encoding lacks
            stream.reconfigure(errors="backslashreplace")
    try:
        code = main()
        sys.stdout.flush()  # reports a full disk here at the latest
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        code = 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        code = 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # otherwise Python's last flush complains
        code = 141
    except Exception as error:
        line = machine_trouble(error)
        if line is None:
            raise
        print(f"error: {line}", file=sys.stderr)
        code = 2
    sys.exit(code or 0)
