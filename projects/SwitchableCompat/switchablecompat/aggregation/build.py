"""Builds the aggregation from the config."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastreid.config import CfgNode

from ..config_check import one_of
from ..errors import InputError
from ..modeling import SwitchableBaseline, shared_parameters
from ..provenance import CLASSIFIER_KEY
from .aggregation import GradientAggregation
from .aggregators import PROTECTED, SUPPORTS, Aggregator, GradientProjection, SumAggregator
from .common_descent import MGDA, CAGrad
from .groups import GRANULARITIES
from .impartial import IMTLG
from .integration import ConflictAwareIntegration
from .upgrad import UPGrad
from .vaccine import GradVac

AGGREGATORS: dict[str, Callable[[Any], Aggregator]] = {  # by SOLVER.AGGREGATION.NAME
    "sum": lambda node: SumAggregator(),
    "projection": lambda node: GradientProjection(node.SUPPORT, node.PROTECT, node.MEMORY),
    "gradvac": lambda node: GradVac(node.BETA),
    "cagrad": lambda node: CAGrad(node.RADIUS),
    "mgda": lambda node: MGDA(),
    "upgrad": lambda node: UPGrad(),
    "imtl_g": lambda node: IMTLG(),
    "cgi": lambda node: ConflictAwareIntegration(node.POWER),
}


def build_aggregator(cfg: CfgNode) -> Aggregator:
    """Build the aggregator that ``SOLVER.AGGREGATION.NAME`` selects.

    Raises:
        InputError: An option is unknown, or a number is out of its range.
    """
    node, key = cfg.SOLVER.AGGREGATION, "SOLVER.AGGREGATION"
    one_of(cfg, f"{key}.NAME", [*AGGREGATORS])
    one_of(cfg, f"{key}.SUPPORT", SUPPORTS)
    one_of(cfg, f"{key}.PROTECT", PROTECTED)
    one_of(cfg, f"{key}.MEAN", ["none", "classifier", "all"])
    one_of(cfg, f"{key}.GRANULARITY", GRANULARITIES)
    one_of(cfg, f"{key}.CLASSIFIER_GRANULARITY", ["", *GRANULARITIES])
    for name, rule, good in (
        ("MEMORY", "must be in [0, 1)", 0 <= node.MEMORY < 1),
        ("BETA", "must be in [0, 1]", 0 <= node.BETA <= 1),
        ("RADIUS", "must be in [0, 1)", 0 <= node.RADIUS < 1),
        ("POWER", "must not be negative", node.POWER >= 0),
    ):
        if not good:
            raise InputError(f"{key}.{name}", rule, node[name])
    return AGGREGATORS[node.NAME](node)


def build_aggregation(cfg: CfgNode, model: SwitchableBaseline) -> GradientAggregation:
    """Build the gradient aggregation of a model that is already on its device."""
    node, trained_by = cfg.SOLVER.AGGREGATION, cfg.MODEL.SWITCHABLE.CLASSIFIER_GRAD
    of_classifier = node.CLASSIFIER_GRANULARITY or node.GRANULARITY
    if of_classifier == "global" and (trained_by == "certain" or node.MEAN == "classifier"):
        of_classifier = "filter"  # exceptions cannot share one vector with the other parameters
    return GradientAggregation(
        shared_parameters(model),
        model.switch.names,
        build_aggregator(cfg),
        granularity=node.GRANULARITY,
        exceptions={CLASSIFIER_KEY: of_classifier},
        class_vectors=CLASSIFIER_KEY,
        full_classifier=trained_by == "full",
        mean=node.MEAN,
        seed=cfg.SEED,
    )
