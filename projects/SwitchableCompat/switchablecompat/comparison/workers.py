"""Commands that run at once, each with its share of the machine."""

import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from ..engine.interruption import PARENT

GRACE = 60.0  # seconds for a command to write its checkpoint after it was asked to end


@dataclass
class Worker:
    """A running command, and the file of its output."""

    key: str  # the caller's name for it
    process: subprocess.Popen
    log: Path
    slot: int  # its number among the commands that run at once, from 0
    started: float = field(default_factory=time.perf_counter)

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self.started

    def problem(self) -> str:
        """The error of an ended command, with the last line of its log; empty if it succeeded."""
        if self.process.returncode == 0:
            return ""
        text = self.log.read_text(encoding="utf-8", errors="replace")
        lines = [line for line in text.splitlines() if line.strip()]
        return f"exit code {self.process.returncode}, {lines[-1] if lines else 'no output'} (log: {self.log})"


class Workers:
    """At most ``jobs`` commands at once, in this process's environment, to which :func:`share` adds variables."""

    def __init__(self, jobs: int) -> None:
        self._jobs, self.active = jobs, dict[str, Worker]()

    @property
    def free(self) -> bool:
        """Whether another command can start."""
        return len(self.active) < self._jobs

    def start(self, key: str, command: Sequence[str], log: Path) -> Worker:
        """Start a command, and append its output to ``log``."""
        log.parent.mkdir(parents=True, exist_ok=True)
        slot = min({*range(self._jobs)} - {worker.slot for worker in self.active.values()})
        mine = share(slot, self._jobs, os.environ, usable_cores(), torch.cuda.device_count())
        # In its own session, so that Ctrl-C reaches only this process, which then ends the command.
        with log.open("a", encoding="utf-8") as file:
            process = subprocess.Popen(
                command,
                stdout=file,
                stderr=subprocess.STDOUT,
                env={**os.environ, **mine, PARENT: str(os.getpid())},
                start_new_session=True,
            )
        self.active[key] = Worker(key, process, log, slot)
        return self.active[key]

    def ended(self) -> list[Worker]:
        """The commands that have ended since the last call."""
        over = [worker for worker in self.active.values() if worker.process.poll() is not None]
        for worker in over:
            del self.active[worker.key]
        return over

    def end(self, keys: Sequence[str] | None = None) -> None:
        """Ask commands (default: all) to end, and wait for their ends."""
        workers = [self.active[key] for key in (list(self.active) if keys is None else keys)]
        for worker in workers:
            worker.process.terminate()
        until = time.monotonic() + GRACE
        for worker in workers:
            try:
                worker.process.wait(max(0, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                worker.process.kill()
                worker.process.wait()


def usable_cores() -> int:
    """Number of cores that this process may use, possibly fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def share(slot: int, jobs: int, environment: Mapping[str, str], cores: int, gpus: int) -> dict[str, str]:
    """Environment variables that give one of ``jobs`` processes its share: threads, and one GPU if there are GPUs.

    The user's own settings of threads stay. A single process gets no variables.

    Args:
        slot: Number of the process, from 0.
        jobs: Number of processes that run at once.
        environment: The user's environment.
        cores, gpus: Cores of this machine, and GPUs that this process sees; processes get them in turn.
    """
    if jobs == 1:
        return {}
    mine = {} if "OMP_NUM_THREADS" in environment else {"OMP_NUM_THREADS": str(max(1, cores // jobs))}
    if gpus:
        visible = environment.get("CUDA_VISIBLE_DEVICES", "")
        names = [name.strip() for name in visible.split(",")][:gpus] if visible else [str(i) for i in range(gpus)]
        mine["CUDA_VISIBLE_DEVICES"] = names[slot % len(names)]
    return mine
