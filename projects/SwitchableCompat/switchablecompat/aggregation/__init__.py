"""Aggregation of the sub-models' gradients."""

from .aggregation import GradientAggregation
from .aggregators import Aggregator, GradientProjection, SumAggregator
from .build import AGGREGATORS, build_aggregation, build_aggregator

__all__ = [
    "AGGREGATORS",
    "Aggregator",
    "GradientAggregation",
    "GradientProjection",
    "SumAggregator",
    "build_aggregation",
    "build_aggregator",
]
