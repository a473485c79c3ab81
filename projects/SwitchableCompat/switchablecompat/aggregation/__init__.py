"""Aggregation of the sub-models' gradients."""

from .aggregation import GRANULARITIES, GradientAggregation
from .aggregators import SUPPORTS, Aggregator, GradientProjection, SumAggregator
from .build import AGGREGATORS, build_aggregation, build_aggregator
from .gradient_bank import GradientBank

__all__ = [
    "AGGREGATORS",
    "GRANULARITIES",
    "SUPPORTS",
    "Aggregator",
    "GradientAggregation",
    "GradientBank",
    "GradientProjection",
    "SumAggregator",
    "build_aggregation",
    "build_aggregator",
]
