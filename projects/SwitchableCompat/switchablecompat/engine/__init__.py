"""Runs: training, evaluation, resuming."""

from ..modeling.checkpoint import load_for_evaluation, read_checkpoint
from .setup import setup
from .train_loop import SwitchableTrainLoop
from .trainer import SwitchableTrainer

__all__ = [
    "SwitchableTrainLoop",
    "SwitchableTrainer",
    "load_for_evaluation",
    "read_checkpoint",
    "setup",
]
