"""The switchable backbone in FastReID's registry. It converts the network of any registered builder."""

import os
from itertools import pairwise
from urllib.error import URLError

from fastreid.config import CfgNode
from fastreid.modeling.backbones import BACKBONE_REGISTRY
from torch import nn

from ..errors import InputError
from ..layers import SlimmableConv2d, WidthSwitch
from . import mobilenet, osnet, regnet, repvgg, resnest, resnet, shufflenet, thin_resnet, vit  # noqa: F401  (converters)
from .checkpoint import load_pretrained
from .convert import Conversion, SwitchableNetwork, extract_module


@BACKBONE_REGISTRY.register()
def build_switchable_backbone(cfg: CfgNode) -> SwitchableNetwork:
    """Build ``MODEL.SWITCHABLE.BACKBONE`` with its own builder and pretrained weights, and convert it.

    With ``MODEL.SWITCHABLE.ONLY_WIDTH``, the result is an independent network of that sub-model, without the others.

    Raises:
        InputError: Unknown builder, a layer without a converter, a FEAT_DIM that differs from the network's output, or
            a PRETRAIN_PATH without this backbone's weights.
    """
    switchable = cfg.MODEL.SWITCHABLE
    plain = build_plain_backbone(cfg, switchable.BACKBONE)
    fresh = switchable.SUBMODEL_START == "fresh"
    ctx = Conversion(switchable.WIDTHS, switchable.CHANNEL_DIVISOR, fresh_norms=fresh)
    network, layout = ctx.convert_network(plain)
    if layout.total != cfg.MODEL.BACKBONE.FEAT_DIM:
        raise InputError("MODEL.BACKBONE.FEAT_DIM", f"must be {layout.total}", cfg.MODEL.BACKBONE.FEAT_DIM)
    for smaller, larger in pairwise(range(len(switchable.WIDTHS))):
        layers = [m for m in network.modules() if isinstance(m, SlimmableConv2d)]
        if all(m.out_layout.count(smaller) == m.out_layout.count(larger) for m in layers):
            found = f"{switchable.WIDTHS[smaller]} and {switchable.WIDTHS[larger]}"
            rule = f"no two may keep the same channels (CHANNEL_DIVISOR {switchable.CHANNEL_DIVISOR})"
            raise InputError("MODEL.SWITCHABLE.WIDTHS", rule, found)
    if switchable.ONLY_WIDTH:
        plain = extract_module(network, network.switch.index_of(switchable.ONLY_WIDTH))
        network, _ = Conversion(switch=WidthSwitch.single(switchable.ONLY_WIDTH)).convert_network(plain)
    return network


def build_plain_backbone(cfg: CfgNode, name: str) -> nn.Module:
    """Build an ordinary network with FastReID's builder ``name``.

    Raises:
        InputError: Unknown builder or depth, or pretrained weights that are missing or belong to another backbone.
    """
    backbone = cfg.MODEL.BACKBONE
    if name not in BACKBONE_REGISTRY._obj_map:
        raise InputError("MODEL.SWITCHABLE.BACKBONE", f"must be one of {sorted(BACKBONE_REGISTRY._obj_map)}", name)
    path = backbone.PRETRAIN_PATH if backbone.PRETRAIN else ""
    if path and not os.path.isfile(path):
        raise InputError("MODEL.BACKBONE.PRETRAIN_PATH", "must be an existing file", path)
    if path:  # loaded below: each builder knows only one spelling of names, and skips all others with a log line
        cfg = cfg.clone()
        cfg.defrost()
        cfg.MODEL.BACKBONE.PRETRAIN = False
    try:
        network = BACKBONE_REGISTRY.get(name)(cfg)
    except (NotImplementedError, KeyError, ValueError) as error:  # the first of ShuffleNetV2
        of_mobilenetv3 = str(error).startswith("Unsupported model type")
        if isinstance(error, NotImplementedError) or error.args == (backbone.DEPTH,) or of_mobilenetv3:
            raise InputError("MODEL.BACKBONE.DEPTH", f"unknown to {name}", backbone.DEPTH) from None
        raise
    except (ModuleNotFoundError, URLError) as error:
        if isinstance(error, ModuleNotFoundError) and error.name != "gdown":
            raise
        rule = "set it to a local file of ImageNet weights, or MODEL.BACKBONE.PRETRAIN to False; nothing is downloaded"
        raise InputError("MODEL.BACKBONE.PRETRAIN_PATH", rule, repr(backbone.PRETRAIN_PATH)) from None
    except FileNotFoundError:  # some builders open an empty path
        raise InputError("MODEL.BACKBONE.PRETRAIN_PATH", "must be an existing file", repr(path)) from None
    if path:
        load_pretrained(network, path)
    return network
