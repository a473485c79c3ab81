"""Conversion of FastReID networks, the head, the meta-architecture, and the extraction of sub-models."""

from .backbone import build_switchable_backbone
from .convert import Conversion, register_converter
from .head import SwitchableEmbeddingHead
from .meta_arch import SwitchableBaseline
from .reference import ReferenceModel
from .submodel import build_submodel, extract_submodel
from .thin_resnet import build_thin_resnet_backbone

__all__ = [
    "Conversion",
    "ReferenceModel",
    "SwitchableBaseline",
    "SwitchableEmbeddingHead",
    "build_submodel",
    "build_switchable_backbone",
    "build_thin_resnet_backbone",
    "extract_submodel",
    "register_converter",
]
