"""Loading of trained models; it lives beside the models, which need it for their reference."""

from ..modeling.checkpoint import check_same, load_as_start, load_for_evaluation, read_checkpoint

__all__ = ["check_same", "load_as_start", "load_for_evaluation", "read_checkpoint"]
