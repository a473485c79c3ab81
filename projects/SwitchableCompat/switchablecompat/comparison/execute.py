"""Running what a suite still lacks, one process at a time: resumable, and one failure does not stop the rest."""

from __future__ import annotations

import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from ..errors import InputError
from .records import NO_RECORD, code_digest, read_record
from .results import finished, result_path, write_result
from .runs import DONE, INTERRUPTED, Job, Run
from .suite import Suite

TRAIN, CROSS_TEST = "train_net.py", "cross_test.py"


class Estimate:
    """Time left, from the tasks that are finished: the mean of the same kind, else of all."""

    def __init__(self) -> None:
        self._seconds: dict[str, list[float]] = {}

    def add(self, kind: str, seconds: float) -> None:
        """Note a finished task; its kind is what tasks that take as long have in common."""
        self._seconds.setdefault(kind, []).append(seconds)

    def left(self, kinds: Sequence[str]) -> float | None:
        """Seconds for tasks of these kinds; None while nothing is finished."""
        everything = [value for values in self._seconds.values() for value in values]
        if not everything:
            return None
        mean = sum(everything) / len(everything)
        return sum(
            sum(self._seconds[kind]) / len(self._seconds[kind]) if kind in self._seconds else mean for kind in kinds
        )


class Runner:
    """Runs the jobs of a suite.

    Args:
        suite: the suite.
        jobs: what to run, see :func:`~.runs.plan`.
        results_dir: folder of the suite's result files.
        jobs_dir: folder of the runs.
        tools: folder of ``train_net.py`` and ``cross_test.py``.
        say: gets the progress lines.
    """

    def __init__(
        self,
        suite: Suite,
        jobs: Sequence[Job],
        results_dir: Path,
        jobs_dir: Path,
        tools: Path,
        say: Callable[[str], None] = print,
    ) -> None:
        self._suite, self._results_dir, self._tools, self._say = suite, results_dir, tools, say
        self._places = (jobs_dir, results_dir)
        self._estimate = Estimate()
        self.failed: list[str] = []
        self.jobs = [job for job in jobs if not finished(self._result(job), job, self._places)]
        self.skipped = len(jobs) - len(self.jobs)
        runs = {run.folder: run for job in self.jobs for run in (*job.models, *job.runs)}
        # Every state is asked for now: folders of other runs are refused before anything is started.
        self._states = {folder: run.state() for folder, run in runs.items()}
        for folder, run in runs.items():
            if self._states[folder] == DONE:
                self._estimate.add(_kind(run), (read_record(folder) or NO_RECORD)["seconds"])
        others = {run.title for f, run in runs.items() if {*(read_record(f) or NO_RECORD)["code"]} - {code_digest()}}
        if others:
            self._say(f"note: the code has changed since these runs were started: {', '.join(sorted(others))}")
        self._tasks: list[Run | Job] = []
        for job in self.jobs:
            # The reference stands before the runs that need it, whether or not its own method was asked for.
            for run in (*(run.reference for run in job.runs[:1] if run.reference), *job.runs):
                if self._states[run.folder] != DONE and run not in self._tasks:
                    self._tasks.append(run)
            self._tasks.append(job)

    def dry_run(self) -> None:
        """Say what would be run, command by command."""
        self._say(f"{self.skipped} results exist; {len(self._tasks)} commands to run")
        for task in self._tasks:
            state = "" if isinstance(task, Job) else self._states[task.folder]
            command = self._command(task, resume=state == INTERRUPTED)
            self._say(f"# {task.title}{state and f' ({state})'}\n{shlex.join(command)}")

    def run(self) -> list[str]:
        """Run everything that is left; returns the titles of what failed or could not be run."""
        self._say(f"{self.skipped} results exist; {len(self._tasks)} commands to run")
        broken: set[Path] = set()
        for number, task in enumerate(self._tasks, start=1):
            needs = task.models if isinstance(task, Job) else tuple(filter(None, [task.reference]))
            if missing := [run.title for run in needs if run.folder in broken]:
                self._fail(number, task, f"not run: it needs {missing[0]}")
                broken.add(task.folder)
                continue
            start = time.perf_counter()
            try:
                problem = self._grid(task) if isinstance(task, Job) else self._train(number, task)
            except InputError as error:
                problem = str(error)
            seconds = time.perf_counter() - start
            if problem:
                self._fail(number, task, problem)
                broken.add(task.folder)
                continue
            self._estimate.add(_kind(task), seconds)
            left = self._estimate.left([_kind(one) for one in self._tasks[number:]])
            then = f"; about {format_seconds(left)} left" if left else ""
            self._say(f"[{number}/{len(self._tasks)}] {task.title}: done in {format_seconds(seconds)}{then}")
        return self.failed

    def _train(self, number: int, run: Run) -> str:
        """Train to the end; returns what went wrong, or an empty string."""
        state = run.state()
        run.record(started=1)
        how = "continues" if state == INTERRUPTED else "starts"
        self._say(f"[{number}/{len(self._tasks)}] {run.title}: {how}, log in {run.folder / 'train.txt'}")
        start = time.perf_counter()
        try:
            problem = self._execute(self._command(run, resume=state == INTERRUPTED), run.folder / "train.txt")
        finally:
            run.record(seconds=time.perf_counter() - start)
        if not problem and run.state() != DONE:
            problem = f"ended without model_final.pth and grid.json in {run.folder}"
        return problem

    def _grid(self, job: Job) -> str:
        """Make the grid and the result file."""
        problem = self._execute(self._command(job), job.folder / "cross_test.txt")
        if not problem:
            tasks: list[Run | Job] = [*job.runs, job]
            commands = [self._command(task, python="python", tools="tools") for task in tasks]
            write_result(self._result(job), self._suite, job, commands, self._places)
        return problem

    def _result(self, job: Job) -> Path:
        return result_path(self._results_dir, job.method.name, job.seed)

    def _command(
        self, task: Run | Job, *, resume: bool = False, python: str = sys.executable, tools: str = ""
    ) -> list[str]:
        script = str(Path(tools or self._tools) / (CROSS_TEST if isinstance(task, Job) else TRAIN))
        arguments = task.arguments()
        if resume:  # FastReID takes everything after the first KEY as KEY VALUE
            arguments = ["--resume", *arguments]
        return [python, script, *arguments]

    def _execute(self, command: Sequence[str], log: Path) -> str:
        """Run a command, its output appended to ``log``; a process that we leave behind is ended first."""
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("a", encoding="utf-8") as file:
            process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)
            try:
                code = process.wait()
            except BaseException:
                process.terminate()
                process.wait()
                raise
        if code == 0:
            return ""
        lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
        return f"exit code {code}, {lines[-1] if lines else 'no output'} (log: {log})"

    def _fail(self, number: int, task: Run | Job, problem: str) -> None:
        self.failed.append(task.title)
        self._say(f"[{number}/{len(self._tasks)}] {task.title}: FAILED, {problem}")


def format_seconds(seconds: float) -> str:
    """A duration for the eye."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"


def _kind(task: Run | Job) -> str:
    """Tasks of one kind take about the same time whatever the seed."""
    if isinstance(task, Job):
        return f"{task.method.name} grid"
    return f"{task.method} {task.width}"
