"""Grid evaluation: ours, the matrix products alone, and FastReID's ``evaluate_rank`` cell by cell."""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import shutil
import subprocess
import sys
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

from .timing import peak_memory

TRAINED, UNTRAINED = 4.0, 0.01  # separations: mAP about 80 at Market-1501's size in 512 dimensions, and chance


@dataclass(frozen=True)
class Task:
    """Features and labels of a grid with the size of a real data set.

    Attributes:
        query: query features of each sub-model, ``[Nq, D]``, L2-normalised float32.
        gallery: gallery features of each sub-model, ``[Ng, D]``.
        labels: identities of queries and gallery, then cameras of queries and gallery.
    """

    query: list[Tensor]
    gallery: list[Tensor]
    labels: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]

    @property
    def widths(self) -> list[float]:
        """One width per sub-model."""
        return [(i + 1) / len(self.query) for i in range(len(self.query))]

    def retrieval(self) -> RetrievalTask:
        """The package's task, which it builds before ranking."""
        return RetrievalTask(self.widths, self.query, self.gallery, ProtocolMatches(*self.labels))


def random_task(
    queries: int,
    gallery: int,
    identities: int,
    dimension: int,
    m: int,
    *,
    separation: float = TRAINED,
    cameras: int = 6,
) -> Task:
    """Make a task from noisy identity centres.

    Args:
        queries: number of queries.
        gallery: number of gallery items.
        identities: number of identities in both.
        dimension: dimension of the features.
        m: number of sub-models.
        separation: by how many standard deviations two images of one identity are more similar than other pairs. In a
            harder task positives rank lower, and more items must be compared with them.
        cameras: number of cameras in both.
    """
    generator = torch.Generator().manual_seed(0)
    rng = np.random.default_rng(0)
    pids = rng.integers(0, identities, queries + gallery)
    camids = rng.integers(0, cameras, queries + gallery)
    centres = F.normalize(torch.randn(identities, dimension, generator=generator))
    noise_norm = (dimension**0.5 / separation - 1) ** 0.5  # cosines of unlike pairs spread by dimension ** -0.5
    features = []
    for _ in range(m):
        noise = torch.randn(queries + gallery, dimension, generator=generator) / dimension**0.5
        features.append(F.normalize(centres[pids] + noise_norm * noise))
    return Task(
        [f[:queries] for f in features],
        [f[queries:] for f in features],
        (pids[:queries], pids[queries:], camids[:queries], camids[queries:]),
    )


def ours(task: Task) -> Callable[[], list]:
    """Our ranking of all cells: mAP, every Rank-k, mINP."""
    return lambda: rank_cells(task.retrieval())


def memory_of_a_cell(size: tuple[int, int, int], threads: int, extra: str = "") -> float:
    """MiB that ranking one cell needs in addition to the features, optionally with a refinement.

    Args:
        size: numbers of queries, gallery items, identities.
        threads: threads of the CPU.
        extra: ``re-ranking`` or ``query expansion`` with FastReID's default options; empty for none.
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
    buffer = torch.empty(rows, len(task.gallery[0]))

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
