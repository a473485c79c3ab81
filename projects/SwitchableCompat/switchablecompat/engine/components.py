"""Lets the components of a run check their own options before any work starts."""

from __future__ import annotations

import logging

from fastreid.config import CfgNode, get_cfg

from ..aggregation import build_aggregator
from ..config import add_switchablecompat_config
from ..config_check import single_width
from ..config_unread import unread_settings
from ..losses import CompatibleLoss
from ..modeling.head import check_classifier
from .step_plan import StepPlan

logger = logging.getLogger("fastreid.switchablecompat.setup")


def check_components(cfg: CfgNode) -> None:
    """Let every component of a training check its settings.

    Raises:
        InputError: With the key, the rule and the value found.
    """
    check_classifier(cfg)
    CompatibleLoss.from_config(cfg)
    build_aggregator(cfg)
    StepPlan.from_config(cfg, 1 if single_width(cfg) else len(cfg.MODEL.SWITCHABLE.WIDTHS), iterations=1)


def warn_of_unread(cfg: CfgNode) -> None:
    """Log a warning for every setting that differs from its default but that no code reads."""
    for line in unread_settings(cfg, add_switchablecompat_config(get_cfg())):
        logger.warning(f"no effect: {line}")
