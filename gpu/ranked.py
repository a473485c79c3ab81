"""All cells of a grid from features on a device: what the parts take from the evaluation, in one place."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from switchablecompat.evaluation.cells import Cells, rank_cells
from switchablecompat.evaluation.ranking import Labels, ProtocolMatches, RankingResult
from switchablecompat.evaluation.task import RetrievalTask


def all_cells(
    query: Sequence[Tensor], gallery: Sequence[Tensor], labels: Sequence[Labels], widths: Sequence[float]
) -> Cells:
    """Rank; ``labels`` are identities of queries and gallery, then their cameras."""
    return rank_cells(RetrievalTask(widths, query, gallery, ProtocolMatches(*labels)))


def first_of(cells: Cells) -> RankingResult:
    """The cell of the smallest sub-model on itself."""
    cell = cells[0][0]
    assert cell is not None
    return cell
