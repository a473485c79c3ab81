"""The tasks of a suite: its training runs, the grids made from them, and the state of each.

``<jobs>/<method>/seed<k>/`` (switchable) or ``.../seed<k>/w025/`` (separate) is the OUTPUT_DIR of a training run. Its
``run.json`` has the settings of the run, the number of starts, the seconds used, the digests of the code that ran, and
the machines that ran it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from fastreid.config import CfgNode

from ..config import load_config
from ..errors import InputError
from ..files import write_json
from ..modeling.trained import run_record
from ..provenance import hardware, versions
from ..settings import flat_settings
from ..widths import width_name
from .same_settings import REFERENCE, difference, other_file
from .suite import Method, Suite

RECORD = "run.json"
# The record of a run that was never started.
NO_RECORD: dict[str, Any] = {"settings": {}, "starts": 0, "seconds": 0.0, "code": []}

NEW, INTERRUPTED, DONE = "new", "interrupted", "done"
# The folder, the reference's files and the name of a run do not affect its training.
PLACES = ("METHOD", "OUTPUT_DIR", "MODEL.REFERENCE.CONFIG_FILE", "MODEL.REFERENCE.WEIGHTS")


@dataclass(frozen=True)
class Run:
    """One training run. ``width`` is None for a switchable network; ``reference`` is a run that must be done before."""

    command: ClassVar[str] = "train"
    log: ClassVar[str] = "train.txt"  # in its folder

    method: str
    seed: int
    width: float | None
    folder: Path
    config: str
    opts: tuple[str, ...]
    reference: Run | None = None

    @property
    def title(self) -> str:
        """How progress lines call it."""
        return f"{self.method} seed {self.seed}" + ("" if self.width is None else f" {width_name(self.width)}")

    @property
    def kind(self) -> str:
        """Runs of one kind take about the same time with any seed."""
        return f"{self.method} {self.width}"

    @property
    def needs(self) -> tuple[Run, ...]:
        """The runs that must be done before."""
        return (self.reference,) if self.reference else ()

    def arguments(self) -> list[str]:
        """Arguments of the command, without ``--resume``."""
        return ["--config-file", self.config, *self.opts, "OUTPUT_DIR", str(self.folder)]

    def cfg(self) -> CfgNode:
        """Its config."""
        return load_config(self.config, [*self.opts, "OUTPUT_DIR", str(self.folder)])

    def files(self) -> dict[str, str]:
        """Digests of the files that the config names, by key; without those that the suite makes, and missing ones."""
        found = run_record(self.cfg())["files"]
        return {key: digest for key, digest in found.items() if digest and key not in PLACES}

    def settings(self) -> dict[str, Any]:
        """All settings that affect the training, as flat ``KEY: value``."""
        cfg = self.cfg()
        settings = {key: value for key, value in flat_settings(cfg).items() if key not in PLACES}
        if self.reference:
            settings |= {f"{REFERENCE}{key}": value for key, value in self.reference.settings().items()}
        return settings

    def state(self) -> str:
        """Whether the run is not started, interrupted or done.

        Raises:
            InputError: the config cannot be used, or the folder holds a run with other settings.
        """
        record, settings = read_record(self.folder), self.settings()
        if record["starts"] and (other := difference(record["settings"], settings)):
            rule = "holds a run with other settings; move it away or choose another --jobs-dir"
            raise InputError(self.folder, rule, other)
        if other := other_file(record.get("files", {}), self.files()):
            rule = "holds a run with another content of a file; move it away or choose another --jobs-dir"
            raise InputError(self.folder, rule, other)
        grid, trained = self.folder / "grid.json", (self.folder / "model_final.pth").exists()
        if not record["starts"]:
            if trained:
                raise InputError(self.folder, f"holds a run that this suite did not start (no {RECORD}); move it away")
            return NEW
        if trained and grid.exists():
            seed = read_json(grid).get("seed")
            if seed != self.seed:
                raise InputError(grid, f"must be of seed {self.seed}", seed)
            # Before its last evaluation, a run already has its last checkpoint, and a grid of an earlier epoch.
            return DONE if record.get("finished", True) else INTERRUPTED
        return INTERRUPTED if (self.folder / "last_checkpoint").exists() else NEW

    def record(self, *, started: int = 0, seconds: float = 0.0, finished: bool = False) -> None:
        """Record a start of the run, the seconds that it took, or its end; with the present code and machine."""
        before = read_record(self.folder)
        here = {"hardware": hardware(), "versions": versions()}
        content = {
            "settings": self.settings(),
            "files": self.files(),
            "starts": before["starts"] + started,
            "seconds": before["seconds"] + seconds,
            "code": sorted({*before["code"], code_digest()}),
            "machines": distinct([*before.get("machines", []), here]),  # earlier records do not have them
            "finished": finished,
        }
        write_json(self.folder / RECORD, content, indent=1)


@dataclass(frozen=True)
class Job:
    """One (method, seed) pair of the table: its own training runs, and the grid made from ``models``.

    ``models`` has the run of each sub-model in the grid; one run for a switchable network.
    """

    command: ClassVar[str] = "grid"
    log: ClassVar[str] = "cross_test.txt"

    method: Method
    seed: int
    runs: tuple[Run, ...]
    models: tuple[Run, ...]
    folder: Path

    @property
    def title(self) -> str:
        """How progress lines call it."""
        return f"{self.method.name} seed {self.seed} grid"

    @property
    def kind(self) -> str:
        """Grids of one kind take about the same time with any seed."""
        return f"{self.method.name} grid"

    @property
    def needs(self) -> tuple[Run, ...]:
        """The runs that must be done before."""
        return self.models

    def arguments(self) -> list[str]:
        """Arguments of the command."""
        if self.method.kind == "switchable":
            folder = self.models[0].folder
            models = ["--config-file", str(folder / "config.yaml"), "--weights", str(folder / "model_final.pth")]
        else:
            models = [part for run in self.models for part in ("--model", f"{run.width}={run.folder}")]
            largest = self.models[-1].width
            models += ["--undefined", f"{largest},{largest}"] if self.method.reference else ["--diagonal-only"]
        return [*models, "--method", self.method.name, "--output", str(self.folder)]

    def settings(self) -> dict[str, Any]:
        """Settings of all models in the grid. If they differ in a key, its value is a list with one value per model."""
        apart = self.apart()
        return {key: values if key in apart else values[0] for key, values in self._by_model.items()}

    def apart(self) -> set[str]:
        """The keys in which the models differ."""
        return {key for key, values in self._by_model.items() if any(value != values[0] for value in values)}

    @cached_property
    def _by_model(self) -> dict[str, list[Any]]:
        models = [run.settings() for run in self.models]
        keys = sorted({key for model in models for key in model if not key.startswith(REFERENCE)})
        return {key: [model.get(key) for model in models] for key in keys}

    def files(self) -> dict[str, str]:
        """Digests of the files that its runs' configs name, by key; all runs name the same."""
        return {key: digest for run in self.models for key, digest in run.files().items()}


def plan(suite: Suite, jobs_dir: str | Path, seeds: Sequence[int], only: Sequence[str] = ()) -> list[Job]:
    """The jobs of a suite, seed by seed, so that an unfinished suite has rows to compare; ``only`` selects methods."""
    for seed in seeds:
        if seed not in suite.seeds:
            raise InputError("--seeds", f"must be among the suite's seeds {list(suite.seeds)}", seed)
    wanted = [suite.method(name) for name in only] or suite.methods
    return [make_job(suite, method, seed, Path(jobs_dir)) for seed in seeds for method in wanted]


def make_job(suite: Suite, method: Method, seed: int, jobs_dir: Path) -> Job:
    """The job of one method and seed, with all runs that it needs.

    Raises:
        InputError: the config cannot be used, or has several test sets or galleries.
    """
    folder = jobs_dir / method.name / f"seed{seed}"
    settings = [part.replace("{seed}", str(seed)) for part in (*suite.opts, *method.opts)]
    opts = (*settings, "SEED", str(seed), "METHOD", method.name)
    if method.kind == "switchable":
        _load_checked(method, opts)
        run = Run(method.name, seed, None, folder, method.config, opts)
        return Job(method, seed, (run,), (run,), folder / "cross_test")
    reference = None
    if method.reference:
        reference = make_job(suite, suite.method(method.reference), seed, jobs_dir).models[-1]
        opts += (
            "MODEL.REFERENCE.CONFIG_FILE", str(reference.folder / "config.yaml"),
            "MODEL.REFERENCE.WEIGHTS", str(reference.folder / "model_final.pth"),
        )  # fmt: skip
    widths = _load_checked(method, opts).MODEL.SWITCHABLE.WIDTHS
    if reference and reference.width != widths[-1]:
        raise InputError(method.config, f"must have the reference's largest width {reference.width}", widths[-1])
    runs = tuple(
        Run(method.name, seed, width, folder / width_name(width), method.config,
            (*opts, "MODEL.SWITCHABLE.ONLY_WIDTH", str(width)), reference)
        for width in (widths[:-1] if reference else widths)
    )  # fmt: skip
    return Job(method, seed, runs, (*runs, reference) if reference else runs, folder / "cross_test")


def _load_checked(method: Method, opts: Sequence[str]) -> CfgNode:
    """Load the config of a method, which must have one test set and one gallery: those of its row."""
    cfg = load_config(method.config, opts)
    if len(cfg.DATASETS.TESTS) > 1:
        rule = "must name one data set, because a comparison has one grid per row"
        raise InputError(f"method {method.name}: DATASETS.TESTS", rule, tuple(cfg.DATASETS.TESTS))
    if cfg.TEST.GALLERY_DRAWS > 1:
        rule = "must be 1, because a comparison evaluates one gallery"
        raise InputError(f"method {method.name}: TEST.GALLERY_DRAWS", rule, cfg.TEST.GALLERY_DRAWS)
    return cfg


def read_record(folder: Path) -> dict[str, Any]:
    """Read the ``run.json`` of a run; :data:`NO_RECORD` if there is none.

    Raises:
        InputError: the file is not such a record.
    """
    path = folder / RECORD
    if not path.exists():
        return NO_RECORD
    record = read_json(path)
    if not isinstance(record, dict) or not {*NO_RECORD} <= {*record}:
        raise InputError(path, "must be the record of a run; move its folder away")
    return record


def code_digest() -> str:
    """Digest of the package's present sources, to see whether the code changed between two runs of equal settings."""
    package = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        if path.is_relative_to(Path(__file__).parent):
            continue  # tables and plots do not affect the result of a run
        digest.update(path.relative_to(package).as_posix().encode() + b"\0" + path.read_bytes())
    return f"sha256:{digest.hexdigest()}"


def distinct(items: Sequence[Any]) -> list[Any]:
    """The items without repetitions, in the order of their first occurrence; they need not be hashable."""
    return [item for i, item in enumerate(items) if item not in items[:i]]


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        InputError: not a JSON file.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(path, "must be a readable JSON file", " ".join(str(error).split())) from None
