"""Results as files: one JSON per method and seed. The tables are made from these files alone."""

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..evaluation.cells import QueryResults
from ..evaluation.grid import CompatibilityGrid
from ..family.flips import negative_flips
from ..files import write_json
from ..provenance import hardware
from .runs import Job, code_digest, distinct, read_json, read_record
from .same_settings import difference, other_file
from .suite import Suite

FORMAT = 1


@dataclass(frozen=True)
class Result:
    """The result of one method with one seed."""

    method: str
    seed: int
    settings: Mapping[str, Any]  # all that affect the training
    grid: CompatibilityGrid
    negative_flips: list[list[float | None]]  # [m][m] in per cent, see family/flips.py
    timing: Mapping[str, Any]  # train_seconds, runs
    hardware: Mapping[str, Any]  # cpu, cores, gpu of the machine that made the grid
    code: Sequence[str]  # digests of the package's sources; more than one if the code changed during the runs
    files: Mapping[str, str] = field(default_factory=dict)  # digests of the files that the settings name, by key
    machines: Sequence[Mapping[str, Any]] = ()  # hardware and versions of each, if trained and evaluated on several

    @property
    def made_on(self) -> Sequence[Mapping[str, Any]]:
        """``hardware`` and ``versions`` of all machines that trained or evaluated."""
        return self.machines or [{"hardware": self.hardware, "versions": self.grid.metadata.get("versions", {})}]


def result_path(folder: str | Path, method: str, seed: int) -> Path:
    """Path of the result of one method and seed."""
    return Path(folder) / f"{method}-seed{seed}.json"


def write_result(
    path: Path,
    suite: Suite,
    job: Job,
    commands: Sequence[Sequence[str]],
    places: Sequence[Path],
    code: Collection[str] = (),
) -> None:
    """Write the result of a job whose training runs and grid are done, without absolute paths of this machine.

    Args:
        path, suite, job: the file; the job and its suite.
        commands: what was run.
        places: the folders of jobs and of results; their absolute paths are replaced by their last part.
        code: digests of the code when the grid was started; the present one is added.

    Raises:
        InputError: grid and results of the queries are of different models.
    """
    grid = read_json(job.folder / "grid.json")
    grid["config"] = job.method.config
    queries = QueryResults.read(job.folder / "queries.npz")
    if queries.family != grid["family"]:
        raise InputError(job.folder / "queries.npz", "must be of the same models as grid.json", queries.family)
    trainings = [read_record(run.folder) for run in job.models]
    codes = [digest for record in trainings for digest in record["code"]]
    here = {"versions": grid["versions"], "hardware": hardware()}
    machines = distinct([*(one for record in trainings for one in record.get("machines", [])), here])
    records = [(run.width, read_record(run.folder)) for run in job.runs]
    runs = [{"width": w, "seconds": round(r["seconds"], 1), "starts": r["starts"]} for w, r in records]
    content = {
        "format": FORMAT,
        "suite": suite.name,
        "method": job.method.name,
        "title": job.method.title,
        "kind": job.method.kind,
        "seed": job.seed,
        "settings": job.settings(),
        "files": job.files(),
        "grid": grid,
        "negative_flips": negative_flips(queries.first_hit_rank, queries.defined),
        "timing": {"train_seconds": sum(run["seconds"] for run in runs), "runs": runs},
        **here,
        **({"machines": machines} if len(machines) > 1 else {}),
        "code": sorted({code_digest(), *code, *codes}),
        "commands": [" ".join(command) for command in commands],
    }
    write_json(path, portable(content, places), indent=1)


def read_result(path: Path) -> Result:
    """Read a file of :func:`write_result`."""
    content = read_json(path)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise InputError(path, f"must be a result of format {FORMAT}")
    content = {"files": {}, "machines": (), **content}  # earlier versions had none; most have one machine
    names = [one.name for one in fields(Result)]
    if missing := [name for name in names if name not in content]:
        raise InputError(f"{path}: {missing[0]}", "must be given")
    return Result(**{name: content[name] for name in names} | {"grid": CompatibilityGrid.from_dict(content["grid"])})


def load_results(suite: Suite, folder: str | Path) -> list[Result]:
    """All existing results of the suite's methods and seeds, in the suite's order."""
    paths = [result_path(folder, method.name, seed) for method in suite.methods for seed in suite.seeds]
    return [read_result(path) for path in paths if path.exists()]


def finished(path: Path, job: Job, places: Sequence[Path]) -> bool:
    """Whether the job's result exists. ``places`` as for :func:`write_result`.

    Raises:
        InputError: the result was made with other settings, or with another content of a file that they name.
    """
    if not path.exists():
        return False
    result = read_result(path)
    if other := other_settings(result, job, places):
        raise InputError(path, "was made with other settings; move it away or change the suite", other)
    if other := other_content(result, job):
        raise InputError(path, "was made with another content of a file; move it away or change the suite", other)
    return True


def other_settings(result: Result, job: Job, places: Sequence[Path]) -> str:
    """The first setting in which a result differs from its job, as text; empty if none does."""
    return difference(result.settings, portable(job.settings(), places), job.apart())


def other_content(result: Result, job: Job) -> str:
    """The first file whose content has changed since a result was made, as text; empty if none has."""
    return other_file(result.files, job.files()) if result.files else ""


def portable(content: Any, places: Sequence[Path] = ()) -> Any:
    """Replace absolute paths in all strings, by paths relative to a known place or to the working folder if inside."""
    if isinstance(content, Mapping):
        return {key: portable(value, places) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [portable(value, places) for value in content]
    if not isinstance(content, str):
        return content
    for place in [*places, Path.cwd()]:
        keep = "" if place == Path.cwd() else f"{place.name}/"
        content = content.replace(f"{place.absolute()}{os.sep}", keep)
    return " ".join(_without_root(word) for word in content.split(" "))


def _without_root(word: str) -> str:
    """Remove the folders from ``/any/where/file`` and ``KEY=/any/where/file``."""
    head, separator, tail = word.rpartition("=")
    return f"{head}{separator}{Path(tail).name}" if os.path.isabs(tail) and tail != os.sep else word
