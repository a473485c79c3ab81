"""Losses that make sub-models compatible."""

from .compatible import PRESETS, CompatibleLoss, EvidentialOptions

__all__ = ["PRESETS", "CompatibleLoss", "EvidentialOptions"]
