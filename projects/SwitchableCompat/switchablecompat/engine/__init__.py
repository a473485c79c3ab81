"""Runs: training, evaluation, resuming."""

from ..modeling.checkpoint import load_for_evaluation, read_checkpoint
from .hooks import BNCalibration
from .setup import setup
from .train_loop import SwitchableTrainLoop
from .trainer import SwitchableTrainer

__all__ = [
    "BNCalibration",
    "SwitchableTrainLoop",
    "SwitchableTrainer",
    "load_for_evaluation",
    "read_checkpoint",
    "setup",
]
