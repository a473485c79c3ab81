"""Grid evaluation: ours, the matrix products alone, and FastReID's ``evaluate_rank`` cell by cell."""

import argparse
import contextlib
import importlib
import io
import os
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from fastreid.config import get_cfg
from torch import Tensor

from switchablecompat.errors import InputError
from switchablecompat.evaluation.cells import rank_cells
from switchablecompat.evaluation.ranking import BLOCK_BYTES, ProtocolMatches
from switchablecompat.evaluation.refinement import Refinement, refine_cells
from switchablecompat.evaluation.task import RetrievalTask

from .aggregation import widths_of
from .timing import Row, compare, compare_once, in_fresh_process, interleave, peak_memory

TRAINED, UNTRAINED = 4.0, 0.01  # separations: mAP about 80 at Market-1501's size in 512 dimensions, and chance
MARKET, MSMT = (3368, 19732, 751), (11659, 82161, 3060)  # queries, gallery, identities


def measure(arguments: argparse.Namespace) -> tuple[list[Row], dict[str, Any]]:
    """The grid against its matrix products, a cell against FastReID, and the memory that ranking needs."""
    rows, agreement = [], 0.0
    for dimension, separation, target in ((512, TRAINED, 1.3), (2048, TRAINED, 1.3), (512, UNTRAINED, None)):
        task = random_task(*MARKET, dimension, 4, separation=separation)
        seconds = interleave({"ours": ours(task), "products": products(task)}, arguments.repeats)
        name = f"4 x 4 grid, Market-1501's size, {dimension}-d, mAP {ours(task)()[0][0].mAP:.0f}"
        rows.append(compare(name, seconds, "ours", "products", target, "its 16 matrix products"))
    task = random_task(*MARKET, 512, 1)
    with tempfile.TemporaryDirectory() as folder, compiled_fastreid(Path(folder)), quiet():
        peers = {f"FastReID, {name}": fastreid(task, (0, 0), cython=name == "Cython") for name in ("Cython", "Python")}
        seconds = interleave({"ours": ours(task), **peers}, arguments.repeats)
        cells = ours(task)()
        for name, peer in peers.items():
            rows.append(compare("one cell, 512-d", seconds, "ours", name))
            agreement = max(agreement, largest_difference(cells, (0, 0), peer()))
    threads = torch.get_num_threads()
    extra = in_fresh_process(memory_of_a_cell, MSMT, threads)
    rows.append(compare_once("extra memory of a cell, MSMT17's size", extra, "1 GiB", 1024.0, 1.0, "MiB"))
    dense = 4 * sum(MARKET[:2]) ** 2 / 2**20
    for name in ("re-ranking", "query expansion"):
        extra = in_fresh_process(memory_of_a_cell, MARKET, threads, name)
        against = "a matrix of all images against all (FastReID has several)"
        rows.append(compare_once(f"extra memory of {name}, Market-1501's size", extra, against, dense, 1.0, "MiB"))
    return rows, {"market": MARKET, "msmt": MSMT, "largest_difference_to_fastreid_in_points": agreement}


@dataclass(frozen=True)
class Task:
    """Features and labels of a grid with the size of a real data set."""

    query: list[Tensor]  # of each sub-model, [Nq, D], L2-normalised float32
    gallery: list[Tensor]  # [Ng, D]
    labels: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]  # identities of both, then cameras of both

    def retrieval(self) -> RetrievalTask:
        """The package's task, which it builds before ranking."""
        return RetrievalTask(widths_of(len(self.query)), self.query, self.gallery, ProtocolMatches(*self.labels))


def random_task(
    queries: int,
    gallery: int,
    identities: int,
    dimension: int,
    m: int,
    *,
    separation: float = TRAINED,
    device: str = "cpu",
) -> Task:
    """Make a task of ``m`` sub-models from noisy identity centres. The arguments are numbers, and the features' device.

    Two images of one identity are more similar than other pairs by ``separation`` standard deviations. In a harder task
    positives rank lower, and more items must be compared with them.
    """
    generator = torch.Generator(device).manual_seed(0)
    options: dict[str, Any] = {"device": device, "generator": generator}
    rng = np.random.default_rng(0)
    pids = rng.integers(0, identities, queries + gallery)
    camids = rng.integers(0, 6, queries + gallery)
    centres = F.normalize(torch.randn(identities, dimension, **options))[torch.from_numpy(pids).to(device)]
    noise_norm = (dimension**0.5 / separation - 1) ** 0.5  # cosines of unlike pairs spread by dimension ** -0.5
    features = []
    for _ in range(m):
        noise = torch.randn(queries + gallery, dimension, **options) / dimension**0.5
        features.append(F.normalize(centres + noise_norm * noise))
    return Task(
        [f[:queries] for f in features],
        [f[queries:] for f in features],
        (pids[:queries], pids[queries:], camids[:queries], camids[queries:]),
    )


def ours(task: Task) -> Callable[[], list]:
    """Our ranking of all cells: mAP, every Rank-k, mINP."""
    return lambda: rank_cells(task.retrieval())


def memory_of_a_cell(size: tuple[int, int, int], threads: int, extra: str = "") -> float:
    """MiB that ranking one cell needs in addition to the features, as in :data:`MARKET` for ``size``.

    ``extra`` is ``re-ranking`` or ``query expansion`` with FastReID's default options; empty for none.
    """
    torch.set_num_threads(threads)
    task = random_task(*size, 512, 1)
    cfg = get_cfg()
    cfg.TEST.RERANK.ENABLED, cfg.TEST.AQE.ENABLED = extra == "re-ranking", extra == "query expansion"
    refinement = Refinement.from_config(cfg)
    with peak_memory() as peak:
        if refinement is None:
            ours(task)()
        else:
            refine_cells(task.retrieval(), refinement)
    return peak.mib


def products(task: Task) -> Callable[[], None]:
    """Only the matrix products of all cells, in blocks of the size that ranking uses."""
    rows = max(1, BLOCK_BYTES // (4 * len(task.gallery[0])))
    buffer = torch.empty(rows, len(task.gallery[0]), device=task.query[0].device)

    def run() -> None:
        for query in task.query:
            for gallery in task.gallery:
                for start in range(0, len(query), rows):
                    block = query[start : start + rows]
                    torch.mm(block, gallery.T, out=buffer[: len(block)])

    return run


def fastreid(task: Task, cell: tuple[int, int], *, cython: bool) -> Callable[[], tuple[float, float, float]]:
    """FastReID's evaluation of one cell: distances, then ``evaluate_rank``; returns mAP, Rank-1, mINP in per cent."""
    rank = importlib.import_module("fastreid.evaluation.rank")
    q, g = cell

    def run() -> tuple[float, float, float]:
        distances = (1 - task.query[q] @ task.gallery[g].T).numpy()
        # By position, as in its Cython signature: query ids, gallery ids, query cameras, gallery cameras.
        cmc, precisions, penalties = rank.evaluate_rank(distances, *task.labels, 50, False, cython)
        return 100 * float(np.mean(precisions)), 100 * float(cmc[0]), 100 * float(np.mean(penalties))

    return run


@contextlib.contextmanager
def compiled_fastreid(folder: Path) -> Iterator[None]:
    """Build FastReID's Cython ranking in a scratch folder and let its ``evaluate_rank`` use it inside the block.

    Raises:
        InputError: It cannot be built here.
    """
    rank: Any = importlib.import_module("fastreid.evaluation.rank")
    shutil.copy(Path(rank.__file__).parent / "rank_cylib" / "rank_cy.pyx", folder)
    built = subprocess.run(
        [sys.executable, "-m", "Cython.Build.Cythonize", "-q", "-i", "rank_cy.pyx"],
        cwd=folder,
        env={**os.environ, "CFLAGS": f"-O3 -I{np.get_include()}"},
        capture_output=True,
        text=True,
        check=False,
    )
    if built.returncode:
        reason = (built.stderr.strip().splitlines() or ["no message"])[-1]
        raise InputError("FastReID's Cython ranking", "needs pip install '.[bench]' and a C compiler", reason)
    sys.path.insert(0, str(folder))
    before = rank.__dict__.get("evaluate_cy"), rank.IS_CYTHON_AVAI
    try:
        rank.evaluate_cy, rank.IS_CYTHON_AVAI = importlib.import_module("rank_cy").evaluate_cy, True
        yield
    finally:
        sys.path.remove(str(folder))
        rank.evaluate_cy, rank.IS_CYTHON_AVAI = before


def largest_difference(cells: list, cell: tuple[int, int], theirs: tuple[float, float, float]) -> float:
    """Largest difference between our mAP, Rank-1 and mINP of a cell and FastReID's, in percentage points."""
    own = cells[cell[0]][cell[1]]
    return max(abs(a - b) for a, b in zip((own.mAP, own.rank_k(1), own.mINP), theirs, strict=True))


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Hide FastReID's output and warnings during ranking."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield
