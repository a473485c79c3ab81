"""SIGTERM, the signal of ``kill`` and of schedulers that need the machine: the run writes a checkpoint, then it ends."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

EXIT_CODE = 128 + signal.SIGTERM  # what a shell shows for a process that SIGTERM ended
POLL = 0.5  # seconds between two looks at whether the parent process is there


class Terminated(SystemExit):
    """The run ends because it was asked to; no handler of errors catches it.

    Example:
        >>> Terminated().code
        143
    """

    def __init__(self) -> None:
        super().__init__(EXIT_CODE)


class Interruption:
    """A request to end, which waits for a moment at which nothing is half done.

    Attributes:
        requested: SIGTERM has come.
    """

    def __init__(self) -> None:
        self.requested = self._at_once = False

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Take SIGTERM for a request within this block.

        A handler that the user has set keeps the signal, and so does everything outside of the main thread.
        """
        ours = threading.current_thread() is threading.main_thread()
        if not ours or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
            yield
            return
        loaders = signal.getsignal(signal.SIGCHLD)
        signal.signal(signal.SIGTERM, self._take)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.signal(signal.SIGCHLD, loaders)

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """A block without anything to finish: a request, also one that came before it, raises :class:`Terminated`."""
        self._at_once = True
        try:
            if self.requested:
                raise Terminated
            yield
        finally:
            self._at_once = False

    def _take(self, _signal: int, _frame: FrameType | None) -> None:
        # A signal to a whole group ends the loaders too, which torch would report in the middle of the last step.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self.requested = True
        if self._at_once:
            raise Terminated


def end_with(parent: int) -> None:
    """Ask this process to end when its parent ``parent`` is gone, which a killed one cannot do itself."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(POLL)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()
