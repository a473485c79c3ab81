"""Aggregation from the config."""

from __future__ import annotations

from ..errors import InputError
from ..modeling import SwitchableBaseline, shared_parameters
from .aggregation import GradientAggregation
from .aggregators import Aggregator, GradientProjection, SumAggregator

AGGREGATORS = ("sum", "projection")


def build_aggregator(cfg) -> Aggregator:
    """The aggregator that ``SOLVER.AGGREGATION.NAME`` asks for.

    Raises:
        InputError: Unknown name.
    """
    node = cfg.SOLVER.AGGREGATION
    if node.NAME == "sum":
        return SumAggregator()
    if node.NAME == "projection":
        return GradientProjection(node.SUPPORT)
    raise InputError("SOLVER.AGGREGATION.NAME", f"must be one of {list(AGGREGATORS)}", repr(node.NAME))


def build_aggregation(cfg, model: SwitchableBaseline) -> GradientAggregation:
    """The gradient aggregation of a model that is already on its device."""
    node = cfg.SOLVER.AGGREGATION
    return GradientAggregation(
        shared_parameters(model),
        model.switch.names,
        build_aggregator(cfg),
        granularity=node.GRANULARITY,
        summed=() if node.PROJECT_CLASSIFIER else ("heads.weight",),
        seed=cfg.SEED,
    )
