"""Rank all cells of a grid from features on a device: the parts' common use of the evaluation."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from switchablecompat.evaluation.cells import Cells, rank_cells
from switchablecompat.evaluation.ranking import Labels, ProtocolMatches, RankingResult
from switchablecompat.evaluation.task import RetrievalTask


def all_cells(
    query: Sequence[Tensor], gallery: Sequence[Tensor], labels: Sequence[Labels], widths: Sequence[float]
) -> Cells:
    """Rank all cells. ``labels`` are identities of queries and gallery, then their cameras."""
    return rank_cells(RetrievalTask(widths, query, gallery, ProtocolMatches(*labels)))


def first_of(cells: Cells) -> RankingResult:
    """The self-test of the smallest sub-model."""
    cell = cells[0][0]
    assert cell is not None
    return cell
