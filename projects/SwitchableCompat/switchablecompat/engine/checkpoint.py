"""Loading of trained models; it lives beside the models, which need it for their reference."""

from ..modeling.checkpoint import load_for_evaluation, read_checkpoint

__all__ = ["load_for_evaluation", "read_checkpoint"]
