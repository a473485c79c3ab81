"""SIGTERM, the signal of ``kill`` and of batch systems that need the machine: the run writes a checkpoint and ends."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

EXIT_CODE = 128 + signal.SIGTERM  # what a shell shows for a process that SIGTERM ended
PARENT = "SWITCHABLECOMPAT_PARENT"  # variable by which tools/compare.py says who it is
PATIENCE = 5.0  # seconds that interrupted processes have before they are killed
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
        self._of_loaders: Any = None  # torch's handler of SIGCHLD, while it is put aside

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Take SIGTERM for a request within this block.

        A handler that the user has set keeps the signal, and so does everything outside of the main thread.
        """
        ours = threading.current_thread() is threading.main_thread()
        if not ours or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
            yield
            return
        signal.signal(signal.SIGTERM, self._take)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            if self._of_loaders is not None:
                signal.signal(signal.SIGCHLD, self._of_loaders)

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
        if not self.requested:
            # A signal to a whole group ends the loaders too, which torch would report in the middle of the last step.
            self._of_loaders = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self.requested = True
        if self._at_once:
            raise Terminated


@contextmanager
def passed_on(*, several: bool) -> Iterator[None]:
    """A launch of one or ``several`` processes: all of them end, whichever way this one is asked to.

    They get SIGTERM when this process does, and it waits for their checkpoint. Ctrl-C ends them at once.
    """
    if not several:
        yield
        return

    def forward(_signal: int, _frame: FrameType | None) -> None:
        processes = multiprocessing.active_children()
        for process in processes:
            process.terminate()
        if not processes:
            raise Terminated

    former = signal.signal(signal.SIGTERM, forward)
    try:
        yield
    except KeyboardInterrupt:
        _end(multiprocessing.active_children())
        raise
    finally:
        signal.signal(signal.SIGTERM, former)


def _end(processes: list[multiprocessing.process.BaseProcess]) -> None:
    for process in processes:
        if process.pid is not None:
            os.kill(process.pid, signal.SIGINT)
    end = time.monotonic() + PATIENCE
    for process in processes:
        process.join(max(0, end - time.monotonic()))
        process.kill()


def end_with(parent: int) -> None:
    """Ask this process to end when its parent ``parent`` is gone, which a killed one cannot do itself."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(POLL)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()
