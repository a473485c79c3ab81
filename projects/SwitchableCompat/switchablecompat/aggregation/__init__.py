"""Aggregation of the sub-models' gradients."""

from .aggregation import GradientAggregation
from .aggregators import PROTECTED, SUPPORTS, Aggregator, GradientProjection, SumAggregator
from .build import AGGREGATORS, build_aggregation, build_aggregator
from .gradient_bank import GradientBank
from .groups import GRANULARITIES

__all__ = [
    "AGGREGATORS",
    "GRANULARITIES",
    "PROTECTED",
    "SUPPORTS",
    "Aggregator",
    "GradientAggregation",
    "GradientBank",
    "GradientProjection",
    "SumAggregator",
    "build_aggregation",
    "build_aggregator",
]
