"""What FastReID can do to a ranking after the features are there, in every cell of the grid: AQE and re-ranking.

A cell mixes two sub-models: its queries are encoded by one, its gallery by another. Both methods look at the images of
a cell as one set, FastReID's own way: of query and gallery features it makes one list. Features share a space, so the
neighbours of an image are found on both sides; similarities between two queries are those of the query's sub-model, and
so for the gallery. On the diagonal this is FastReID's method on one model.
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
    """Average query expansion, then re-ranking; at least one of them.

    Attributes:
        aqe: its options, or None.
        rerank: its options, or None.
    """

    aqe: QueryExpansion | None
    rerank: ReRanking | None

    @classmethod
    def from_config(cls, cfg: CfgNode) -> Refinement | None:
        """What ``TEST.AQE`` and ``TEST.RERANK`` ask for; None for neither."""
        node = cfg.TEST
        aqe = QueryExpansion(node.AQE.QE_K, node.AQE.QE_TIME, node.AQE.ALPHA) if node.AQE.ENABLED else None
        rerank = ReRanking(node.RERANK.K1, node.RERANK.K2, node.RERANK.LAMBDA) if node.RERANK.ENABLED else None
        return cls(aqe, rerank) if aqe or rerank else None

    @property
    def neighbours(self) -> int:
        """How many of each image are looked at first."""
        return self.aqe.k if self.aqe else self.rerank.k1 if self.rerank else 0

    def to_dict(self) -> dict[str, Any]:
        """The options by name, for ``grid.json``; only of what is used."""
        return {name: options for name, options in asdict(self).items() if options}


def refine_cells(task: RetrievalTask, refinement: Refinement) -> Cells:
    """:func:`~.cells.rank_cells` with refined rankings; on the CPU, wherever the features are.

    Beside lists of neighbours (12 bytes for each of k images for each image and sub-model) and, for re-ranking, sparse
    vectors (a few hundred bytes for each image), the extra memory is a copy of a cell's features and blocks of
    ``block_bytes``.
    """
    k = refinement.neighbours
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
    """One cell, from its features and their neighbours, queries first."""
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
