"""Imported first by every tool: without FastReID there is one line that says how to get it, and exit code 2.

Threads that wait for each other sleep instead of spinning, unless OMP_WAIT_POLICY or GOMP_SPINCOUNT says otherwise:
beside other work a step takes a fraction of the time, and alone no more. It has to be said before torch is imported.
"""

import argparse
import os
import sys
from types import TracebackType
from typing import Any, NoReturn

if "GOMP_SPINCOUNT" not in os.environ:
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def _say_interrupted(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Ctrl-C while the imports of seconds go on: a line and 130, as later (``errors.exit_on_input_error``)."""
    if not issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
        return
    print("interrupted", file=sys.stderr, flush=True)
    os._exit(130)


sys.excepthook = _say_interrupted

try:
    from switchablecompat.errors import InputError
except ImportError as error:
    if error.name not in ("fastreid", "switchablecompat"):
        raise
    hint = "SwitchableCompat is not installed: pip install . (in the repository's folder), or use make demo"
    print(f"error: {error if error.name == 'fastreid' else hint}", file=sys.stderr)
    sys.exit(2)


class Parser(argparse.ArgumentParser):
    """A tool's command line: its docstring and examples as written, one line for bad usage and exit code 2."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"formatter_class": argparse.RawDescriptionHelpFormatter, **kwargs})

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing the whole usage."""
        raise InputError("command line", f"{message} (see --help)")
