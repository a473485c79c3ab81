"""Aggregation from the config."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastreid.config import CfgNode

from ..errors import InputError
from ..modeling import SwitchableBaseline, shared_parameters
from ..provenance import CLASSIFIER_KEY
from .aggregation import GradientAggregation
from .aggregators import Aggregator, GradientProjection, SumAggregator
from .common_descent import MGDA, CAGrad
from .impartial import IMTLG
from .integration import ConflictAwareIntegration
from .upgrad import UPGrad
from .vaccine import GradVac

AGGREGATORS: dict[str, Callable[[Any], Aggregator]] = {  # by SOLVER.AGGREGATION.NAME
    "sum": lambda node: SumAggregator(),
    "projection": lambda node: GradientProjection(node.SUPPORT, node.PROTECT),
    "gradvac": lambda node: GradVac(node.BETA),
    "cagrad": lambda node: CAGrad(node.RADIUS),
    "mgda": lambda node: MGDA(),
    "upgrad": lambda node: UPGrad(),
    "imtl_g": lambda node: IMTLG(),
    "cgi": lambda node: ConflictAwareIntegration(node.POWER),
}


def build_aggregator(cfg: CfgNode) -> Aggregator:
    """The aggregator that ``SOLVER.AGGREGATION.NAME`` asks for.

    Raises:
        InputError: Unknown name.
    """
    node = cfg.SOLVER.AGGREGATION
    if node.NAME not in AGGREGATORS:
        raise InputError("SOLVER.AGGREGATION.NAME", f"must be one of {list(AGGREGATORS)}", repr(node.NAME))
    return AGGREGATORS[node.NAME](node)


def build_aggregation(cfg: CfgNode, model: SwitchableBaseline) -> GradientAggregation:
    """The gradient aggregation of a model that is already on its device."""
    node = cfg.SOLVER.AGGREGATION
    return GradientAggregation(
        shared_parameters(model),
        model.switch.names,
        build_aggregator(cfg),
        granularity=node.GRANULARITY,
        exceptions={CLASSIFIER_KEY: node.CLASSIFIER_GRANULARITY} if node.CLASSIFIER_GRANULARITY else {},
        class_vectors=CLASSIFIER_KEY if cfg.MODEL.SWITCHABLE.CLASSIFIER_GRAD == "certain" else "",
        seed=cfg.SEED,
    )
