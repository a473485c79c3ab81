"""Builds the aggregation from the config."""

import logging
from collections.abc import Callable
from typing import Any

from fastreid.config import CfgNode

from ..config_rules import Rule, check_rules, one_of
from ..layers import shared_parameters
from ..modeling import SwitchableBaseline
from ..provenance import CLASSIFIER_KEY
from .aggregation import GradientAggregation
from .aggregators import PROTECTED, SUPPORTS, Aggregator, GradientProjection, SumAggregator
from .groups import GRANULARITIES
from .torchjd import NAMES, TorchJDAggregator

logger = logging.getLogger("fastreid.switchablecompat.aggregation")

AGGREGATORS: dict[str, Callable[[Any], Aggregator]] = {  # by SOLVER.AGGREGATION.NAME
    "sum": lambda node: SumAggregator(),
    "projection": lambda node: GradientProjection(node.SUPPORT, node.PROTECT, node.MEMORY),
    **dict.fromkeys(NAMES, lambda node: TorchJDAggregator(node.NAME, beta=node.BETA, radius=node.RADIUS)),
}


def build_aggregator(cfg: CfgNode) -> Aggregator:
    """Build the aggregator of ``SOLVER.AGGREGATION``; InputError for a wrong option or a package that is missing."""
    rules: dict[str, Rule] = {
        "NAME": one_of(*AGGREGATORS),
        "SUPPORT": one_of(*SUPPORTS),
        "PROTECT": one_of(*PROTECTED),
        "MEAN": one_of("none", "classifier", "all"),
        "GRANULARITY": one_of(*GRANULARITIES),
        "CLASSIFIER_GRANULARITY": one_of("", *GRANULARITIES),
        "MEMORY": ("must be in [0, 1)", lambda value: 0 <= value < 1),
        "BETA": ("must be in [0, 1]", lambda value: 0 <= value <= 1),
        "RADIUS": ("must be in [0, 1)", lambda value: 0 <= value < 1),
    }
    check_rules(cfg, rules, "SOLVER.AGGREGATION.")
    return AGGREGATORS[cfg.SOLVER.AGGREGATION.NAME](cfg.SOLVER.AGGREGATION)


def build_aggregation(cfg: CfgNode, model: SwitchableBaseline) -> GradientAggregation:
    """Build the gradient aggregation of a model that is already on its device."""
    node, trained_by = cfg.SOLVER.AGGREGATION, cfg.MODEL.SWITCHABLE.CLASSIFIER_GRAD
    of_classifier = node.CLASSIFIER_GRANULARITY or node.GRANULARITY
    by_one = "full" in (trained_by, cfg.MODEL.LOSSES.COMPAT.SUBMODELS)
    excepted = trained_by == "certain" or node.MEAN == "classifier" or (node.MEAN == "all" and by_one)
    if of_classifier == "global" and excepted:
        of_classifier = "filter"  # exceptions cannot share one vector with the other parameters
    if trained_by == "certain" and of_classifier in ("layer", "tensor"):
        logger.warning(
            f"Class vectors are one group (SOLVER.AGGREGATION, {of_classifier}): a sub-model's share in all of them is "
            "the mean of its shares; CLASSIFIER_GRANULARITY filter gives each class its own"
        )
    return GradientAggregation(
        shared_parameters(model),
        model.switch.names,
        build_aggregator(cfg),
        granularity=node.GRANULARITY,
        exceptions={CLASSIFIER_KEY: of_classifier},
        class_vectors=CLASSIFIER_KEY,
        mean=node.MEAN,
        seed=cfg.SEED,
    )
