"""Extraction of sub-models, the inverse of the conversion."""

from fastreid.config import CfgNode
from fastreid.modeling.meta_arch import META_ARCH_REGISTRY
from fastreid.modeling.meta_arch.baseline import Baseline

from .convert import extract_module
from .meta_arch import SwitchableBaseline


def extract_submodel(model: SwitchableBaseline, width: float) -> Baseline:
    """Extract the sub-model of one width as an ordinary FastReID ``Baseline`` with plain layers.

    The result shares no memory with ``model``, has only the parameters of this width, and keeps the training mode. In
    evaluation it returns the same features bit for bit. FastReID's ``Baseline`` normalises a batch in place: pass a
    copy if you need the batch again.

    Raises:
        InputError: The model has no such width.
    """
    static = extract_module(model, model.switch.index_of(width))
    for of_training in ("compatible_loss", "teachers", "_compiled"):
        del static.__dict__[of_training]
    return static


@META_ARCH_REGISTRY.register()
def build_submodel(cfg: CfgNode) -> Baseline:
    """Build the plain network of the sub-model ``MODEL.SWITCHABLE.ONLY_WIDTH``, for its exported checkpoint.

    FastReID's builders have no setting for its channels. The function builds the ordinary network, converts it, and
    keeps only the sub-model.
    """
    return extract_submodel(SwitchableBaseline(cfg), cfg.MODEL.SWITCHABLE.ONLY_WIDTH)
