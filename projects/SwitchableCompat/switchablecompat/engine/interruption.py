"""Handles SIGTERM, the signal of ``kill`` and of batch systems: the run writes a checkpoint and ends."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

EXIT_CODE = 128 + signal.SIGTERM  # exit code of a process that SIGTERM ended, as shells show it
PARENT = "SWITCHABLECOMPAT_PARENT"  # environment variable in which tools/compare.py passes its process number
PATIENCE = 5.0  # seconds until interrupted processes are killed
POLL = 0.5  # seconds between checks whether the parent process exists


class Terminated(SystemExit):
    """Ends the run after a request, with exit code 143. Handlers of ``Exception`` do not catch it."""

    def __init__(self) -> None:
        super().__init__(EXIT_CODE)


class Interruption:
    """A request to end the run, which waits until the current step is complete.

    Attributes:
        requested: Whether SIGTERM has come.
    """

    def __init__(self) -> None:
        self.requested = self._at_once = False
        self._of_loaders: Any = None  # torch's handler of SIGCHLD, while it is replaced

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Treat SIGTERM as a request within this block.

        A handler that the user has set stays in place. Outside the main thread the block has no effect.
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
        """Within this block, a request raises :class:`Terminated` at once, even if it came before the block."""
        self._at_once = True
        try:
            if self.requested:
                raise Terminated
            yield
        finally:
            self._at_once = False

    def _take(self, _signal: int, _frame: FrameType | None) -> None:
        if not self.requested:
            # A signal to the process group also ends the loaders; torch would report this in the middle of the last
            # step.
            self._of_loaders = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self.requested = True
        if self._at_once:
            raise Terminated


@contextmanager
def passed_on(*, several: bool) -> Iterator[None]:
    """Launch one or ``several`` processes, and end all of them when this process is asked to end.

    When this process receives SIGTERM, it passes the signal on and waits for their checkpoint. Ctrl-C ends them at
    once.
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
    """Ask this process to end when its parent process ``parent`` no longer exists; a killed parent cannot ask."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(POLL)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()
