"""Run the unfinished tasks of a suite, some at a time. Runs are resumable, and a failure does not stop the others."""

import shlex
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean

from ..errors import InputError
from .claims import Claims
from .results import finished, result_path, write_result
from .runs import DONE, INTERRUPTED, Job, Run, code_digest, read_record
from .suite import Suite
from .workers import Worker, Workers

PROGRAM = (sys.executable, "-m", "switchablecompat_command")
SCRIPTS = {"train": "tools/train_net.py", "grid": "tools/cross_test.py"}  # as results name the commands
POLL = 0.1  # seconds between two checks of the processes
OTHERS = 2.0  # seconds between two checks of other runners' tasks


class Runner:
    """Runs the jobs of a suite. Several runners, on this or on other machines, can share its folders.

    Args:
        suite, jobs: the suite, and those of its jobs that are to run, see :func:`~.runs.plan`.
        results_dir, jobs_dir: folders of the suite's result files, and of its runs.
        say: called with each progress line.
        at_once: number of processes that run at once.
        program: what runs the commands ``train`` and ``grid``.
    """

    def __init__(
        self,
        suite: Suite,
        jobs: Sequence[Job],
        results_dir: Path,
        jobs_dir: Path,
        say: Callable[[str], None] = print,
        at_once: int = 1,
        program: Sequence[str] = PROGRAM,
    ) -> None:
        self._suite, self._results_dir, self._program, self._say = suite, results_dir, program, say
        self._places = (jobs_dir, results_dir)
        self._estimate, self._at_once = Estimate(), at_once
        self._claims, self._workers = Claims(jobs_dir / "claims"), Workers(at_once)
        self.failed: list[str] = []
        self.jobs = [job for job in jobs if not finished(self._result(job), job, self._places)]
        self.skipped = len(jobs) - len(self.jobs)
        runs = {run.folder: run for job in self.jobs for run in (*job.models, *job.runs)}
        # Read all states now, so that folders of other runs are rejected before anything starts.
        self._states = {folder: run.state() for folder, run in runs.items()}
        for folder, run in runs.items():
            if self._states[folder] == DONE:
                self._estimate.add(run.kind, read_record(folder)["seconds"])
        code = code_digest()
        others = {run.title for folder, run in runs.items() if {*read_record(folder)["code"]} - {code}}
        if others:
            self._say(f"note: the code has changed since these runs were started: {', '.join(sorted(others))}")
        # A reference comes before the runs that need it, whether or not its own method was selected.
        tasks: list[Run | Job] = []
        for job in self.jobs:
            tasks += [*job.runs[0].needs, *job.runs, job]
        unfinished = [task for task in tasks if isinstance(task, Job) or self._states[task.folder] != DONE]
        self._tasks = {self._key(task): task for task in unfinished}
        self._waiting = dict(self._tasks)
        self._broken: set[Path] = set()
        self._code: dict[str, str] = {}  # of grids at work: digest of the code at their start
        self._elsewhere: dict[str, tuple[str, float]] = {}  # tasks of other runners: owner, time of next check

    def dry_run(self) -> None:
        """Print the commands that would be run."""
        self._say(f"{self.skipped} results exist; {len(self._tasks)} commands to run")
        for task in self._tasks.values():
            state = "" if isinstance(task, Job) else self._states[task.folder]
            command = self._command(task, resume=state == INTERRUPTED)
            self._say(f"# {task.title}{state and f' ({state})'}\n{shlex.join(command)}")

    def run(self) -> list[str]:
        """Run all unfinished tasks; return the titles of tasks that failed or could not be run.

        Waits for tasks of other runners, and takes them over if their runner is killed.
        """
        self._say(f"{self.skipped} results exist; {len(self._tasks)} commands to run")
        try:
            while self._waiting or self._workers.active:
                if lost := [key for key in self._claims.beat() if key in self._workers.active]:
                    self._workers.end(lost)
                for worker in self._workers.ended():
                    self._end(worker, taken_over=worker.key in lost)
                while self._workers.free and self._start_one():
                    pass
                if self._waiting or self._workers.active:
                    time.sleep(POLL)
        finally:
            if self._workers.active:
                self._say(f"ending {len(self._workers.active)} commands, with a checkpoint of each training")
            self._workers.end()
            for worker in self._workers.ended():
                self._end(worker, interrupted=True)
        return self.failed

    def _start_one(self) -> bool:
        """Start the first task that can start, or settle it without a process; return whether there was one."""
        for key, task in self._waiting.items():
            if missing := [run.title for run in task.needs if run.folder in self._broken]:
                self._fail(key, f"not run: it needs {missing[0]}")
            elif not self._is_due(key, task.needs):
                continue
            elif owner := self._claims.take(key):
                if self._elsewhere.get(key, ("", 0))[0] != owner:
                    self._tell(key, f"at work elsewhere ({owner})")
                self._elsewhere[key] = (owner, time.monotonic() + OTHERS)
                continue
            else:
                self._begin(key, task)
            self._waiting.pop(key)
            return True
        return False

    def _is_due(self, key: str, needs: Sequence[Run]) -> bool:
        """Whether the runs that a task needs are done, and the time has come to check its claim."""
        unfinished = {*self._waiting, *self._workers.active}
        if any(self._key(run) in unfinished for run in needs):
            return False
        return key not in self._elsewhere or time.monotonic() >= self._elsewhere[key][1]

    def _begin(self, key: str, task: Run | Job) -> None:
        """Start a claimed task, unless another runner has finished it meanwhile."""
        try:
            state = task.state() if isinstance(task, Run) else ""
            if state == DONE or (isinstance(task, Job) and finished(self._result(task), task, self._places)):
                self._claims.release(key)
                self._tell(key, "done elsewhere")
                return
            if isinstance(task, Run):
                task.record(started=1)
                how = "continues" if state == INTERRUPTED else "starts"
                self._tell(key, f"{how}, log in {task.folder / task.log}")
            else:
                self._code[key] = code_digest()
            command = self._command(task, resume=state == INTERRUPTED)
            worker = self._workers.start(key, command, task.folder / task.log)
            self._claims.add_process(key, worker.process.pid)
        except (InputError, OSError) as error:
            self._claims.release(key)
            self._fail(key, str(error))

    def _end(self, worker: Worker, *, taken_over: bool = False, interrupted: bool = False) -> None:
        """Record the end of a task, and its result if it succeeded."""
        key, task = worker.key, self._tasks[worker.key]
        try:
            if isinstance(task, Run):
                task.record(seconds=worker.seconds)
            problem = "" if taken_over or interrupted else worker.problem() or self._complete(task)
        except InputError as error:
            problem = str(error)
        self._claims.release(key)
        if taken_over:
            self._tell(key, "another shell has taken it over")
            self._waiting[key] = task
        elif problem:
            self._fail(key, problem)
        elif not interrupted:
            self._estimate.add(task.kind, worker.seconds)
            self._tell(key, f"done in {format_seconds(worker.seconds)}{self._left()}")

    def _complete(self, task: Run | Job) -> str:
        """Check the files of a task that succeeded, and write its result file; return a text on what is missing."""
        if isinstance(task, Run):
            task.record(finished=True)
            there = task.state() == DONE
            return "" if there else f"ended without model_final.pth and grid.json in {task.folder}"
        parts: list[Run | Job] = [*task.runs, task]
        commands = [["python", SCRIPTS[part.command], *part.arguments()] for part in parts]
        write_result(self._result(task), self._suite, task, commands, self._places, [self._code[self._key(task)]])
        return ""

    def _left(self) -> str:
        """The time left for the whole suite, as text."""
        active = self._workers.active
        kinds = [self._tasks[key].kind for key in (*active, *self._waiting)]
        left = self._estimate.left(kinds, [worker.seconds for worker in active.values()], self._at_once)
        return f"; about {format_seconds(left)} left" if kinds and left else ""

    def _tell(self, key: str, text: str) -> None:
        number = list(self._tasks).index(key) + 1
        self._say(f"[{number}/{len(self._tasks)}] {self._tasks[key].title}: {text}")

    def _key(self, task: Run | Job) -> str:
        """The name of a task's claim, the same for all runners."""
        return "-".join(task.folder.relative_to(self._places[0]).parts)

    def _result(self, job: Job) -> Path:
        return result_path(self._results_dir, job.method.name, job.seed)

    def _command(self, task: Run | Job, *, resume: bool) -> list[str]:
        # FastReID takes everything after the first KEY as KEY VALUE, so the option comes first
        return [*self._program, task.command, *(["--resume"] if resume else []), *task.arguments()]

    def _fail(self, key: str, problem: str) -> None:
        self.failed.append(self._tasks[key].title)
        self._broken.add(self._tasks[key].folder)
        self._tell(key, f"FAILED, {problem}")


class Estimate:
    """Estimates the time left from finished tasks: the mean of the same kind, else of all kinds."""

    def __init__(self) -> None:
        self._seconds: dict[str, list[float]] = {}

    def add(self, kind: str, seconds: float) -> None:
        """Record a finished task of a kind and its time."""
        self._seconds.setdefault(kind, []).append(seconds)

    def left(self, kinds: Sequence[str], spent: Sequence[float] = (), jobs: int = 1) -> float | None:
        """Seconds for tasks of these kinds, ``jobs`` at once; None while no task is finished.

        The running tasks come first; ``spent`` has the seconds that each of them has taken so far.
        """
        everything = [value for values in self._seconds.values() for value in values]
        if not everything:
            return None
        means = [fmean(self._seconds.get(kind, everything)) for kind in kinds]
        done = [min(mean, seconds) for mean, seconds in zip(means, spent, strict=False)]
        return (sum(means) - sum(done)) / max(1, min(jobs, len(kinds)))


def format_seconds(seconds: float) -> str:
    """Human-readable duration."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"
