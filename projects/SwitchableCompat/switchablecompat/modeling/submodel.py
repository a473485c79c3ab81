"""A sub-model on its own: the inverse of the conversion."""

from __future__ import annotations

from fastreid.config import CfgNode
from fastreid.modeling.meta_arch import META_ARCH_REGISTRY
from fastreid.modeling.meta_arch.baseline import Baseline

from .convert import extract_module
from .meta_arch import SwitchableBaseline


def extract_submodel(model: SwitchableBaseline, width: float) -> Baseline:
    """The sub-model of one width as an ordinary FastReID ``Baseline``: plain layers, no switch code.

    It shares no memory with ``model``, has the parameters of that width only, keeps the training mode, and in
    evaluation returns the same features bit for bit.

    Args:
        model: A switchable model.
        width: One of its width multipliers.

    Note:
        FastReID's ``Baseline`` normalises a batch in place: pass a copy if you need the batch again.

    Raises:
        InputError: The model has no such width.
    """
    static = extract_module(model, model.switch.index_of(width))
    del static._modules["compatible_loss"], static.__dict__["teachers"]
    return static


@META_ARCH_REGISTRY.register()
def build_submodel(cfg: CfgNode) -> Baseline:
    """The plain network of the sub-model ``MODEL.SWITCHABLE.ONLY_WIDTH``, for a checkpoint exported from it.

    Its channels are no setting of FastReID's builders: the ordinary network is built, converted and cut.
    """
    return extract_submodel(SwitchableBaseline(cfg), cfg.MODEL.SWITCHABLE.ONLY_WIDTH)
