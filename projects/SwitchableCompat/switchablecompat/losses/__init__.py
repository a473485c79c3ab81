"""Losses that make sub-models compatible."""

from ..own_losses import register_loss
from .asymmetric import asymmetric_loss
from .compatible import PRESETS, CompatibleLoss, EvidentialOptions
from .distillation import distillation_loss
from .influence import influence_loss

__all__ = [
    "PRESETS",
    "CompatibleLoss",
    "EvidentialOptions",
    "asymmetric_loss",
    "distillation_loss",
    "influence_loss",
    "register_loss",
]
