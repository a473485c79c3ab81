"""FastReID's refinements of a ranking, average query expansion (AQE) and re-ranking, in every cell of the grid.

A cell has two sub-models: one encodes its queries, another its gallery. As in FastReID, both methods treat the images
of a cell as one list, queries and gallery together. Features share a space, so an image can have neighbours on both
sides. Similarities between two queries are those of the query sub-model, and similarities between two gallery items are
those of the gallery sub-model. On the diagonal this is FastReID's method on one model.
"""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass
from typing import Any

import torch
from fastreid.config import CfgNode
from torch import Tensor

from ..widths import width_name
from .cells import Cells
from .neighbours import Neighbours, cell_neighbours, nearest
from .query_expansion import QueryExpansion, expand
from .ranking import ProtocolMatches, RankingResult, rank_matches, rank_scores
from .reranking import JaccardDistance, ReRanking, reciprocal_vectors
from .task import RetrievalTask

logger = logging.getLogger("fastreid.switchablecompat.evaluation")


@dataclass(frozen=True)
class Refinement:
    """Options of average query expansion, then of re-ranking; at least one of them."""

    aqe: QueryExpansion | None
    rerank: ReRanking | None

    @classmethod
    def from_config(cls, cfg: CfgNode) -> Refinement | None:
        """The refinement that ``TEST.AQE`` and ``TEST.RERANK`` enable, or None."""
        node = cfg.TEST
        aqe = QueryExpansion(node.AQE.QE_K, node.AQE.QE_TIME, node.AQE.ALPHA) if node.AQE.ENABLED else None
        rerank = ReRanking(node.RERANK.K1, node.RERANK.K2, node.RERANK.LAMBDA) if node.RERANK.ENABLED else None
        return cls(aqe, rerank) if aqe or rerank else None

    def to_dict(self) -> dict[str, Any]:
        """The options of the enabled methods by name, for ``grid.json``."""
        return {name: options for name, options in asdict(self).items() if options}


def refine_cells(task: RetrievalTask, refinement: Refinement) -> Cells:
    """:func:`~.cells.rank_cells` with refined rankings, always on the CPU.

    The extra memory is lists of neighbours (12 bytes per neighbour, k neighbours for each image and sub-model), for
    re-ranking sparse vectors (a few hundred bytes per image), a copy of a cell's features, and blocks of
    ``block_bytes``.
    """
    k = refinement.aqe.k if refinement.aqe else refinement.rerank.k1 if refinement.rerank else 0  # of the first step
    queries, galleries = ([values.cpu() for values in side] for side in (task.query, task.gallery))
    query_alone, gallery_alone = ([nearest(one, one, k) for one in side] for side in (queries, galleries))
    cells: Cells = [[None] * len(task.widths) for _ in task.widths]
    for q, g in task.cells:
        logger.info(f"Refining query {width_name(task.widths[q])}, gallery {width_name(task.widths[g])}")
        neighbours = cell_neighbours(queries[q], galleries[g], k, query_alone[q], gallery_alone[g])
        features = torch.cat([queries[q], galleries[g]])
        cells[q][g] = _refine(features, neighbours, task.matches, refinement, task.block_bytes)
    return cells


@torch.no_grad()
def _refine(
    features: Tensor, neighbours: Neighbours, matches: ProtocolMatches, refinement: Refinement, block_bytes: int
) -> RankingResult:
    number, options = matches.num_queries, refinement.rerank
    if refinement.aqe:
        features = expand(features, neighbours, refinement.aqe, block_bytes=block_bytes)
    query, gallery = features[:number], features[number:]
    if not options:
        return rank_matches(query, gallery, matches, block_bytes=block_bytes)
    if refinement.aqe:
        neighbours = nearest(features, features, options.k1)
    vectors = reciprocal_vectors(features.numpy(), neighbours.index, options.k2, block_bytes=block_bytes)
    jaccard = JaccardDistance(vectors, number)

    def scores(start: int, stop: int) -> Tensor:
        original = 1 - query[start:stop] @ gallery.T
        distance = (1 - options.weight) * jaccard.rows(start, stop) + options.weight * original.numpy()
        return torch.from_numpy(-distance)

    return rank_scores(scores, matches, block_bytes=block_bytes // 4)  # similarities are held four times here
