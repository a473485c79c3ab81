"""FastReID's backbones: which convert, what each width costs, and whether conversion and extraction are exact.

FastReID's own builder builds every backbone with random weights; then it is converted. The full width is compared bit
for bit with FastReID's network (in evaluation and training mode), and each extracted sub-model with its width.
"""

import copy
from collections.abc import Mapping
from typing import Any

import torch
from fastreid.config import CfgNode, get_cfg
from torch import Tensor, nn

from switchablecompat.deploy.files.graph import count_macs
from switchablecompat.errors import InputError
from switchablecompat.modeling.backbone import build_plain_backbone
from switchablecompat.modeling.convert import Conversion, extract_module
from switchablecompat.provenance import versions

WIDTHS, DIVISOR, SIZE = [0.25, 0.5, 0.75, 1.0], 8, (256, 128)
SETTINGS = {"size": [*SIZE], "widths": WIDTHS, "channel_divisor": DIVISOR}  # equal for all families of a file
# FastReID's builder, the measured depth, all depths that the builder lists.
Family = tuple[str, str, str]


def measure(families: Mapping[str, Family]) -> dict[str, Any]:
    """The figures of some families, by name."""
    rows = []
    for family, (builder, depth, depths) in families.items():
        print(f"{family} {depth}", flush=True)
        refused = {name: reason for name in depths.split() if (reason := refusal(builder, name))}
        converts = [name for name in depths.split() if name not in refused]
        row = {"family": family, "builder": f"build_{builder}_backbone", "converts": converts, "refused": refused}
        rows.append(row | (describe(builder, depth) if depth in converts else {"depth": depth}))
    return {**SETTINGS, "families": rows, "versions": versions()}


def config(builder: str, depth: str) -> CfgNode:
    """FastReID's config of a backbone for 256x128 images."""
    cfg = get_cfg()
    cfg.MODEL.BACKBONE.NAME, cfg.MODEL.BACKBONE.DEPTH = f"build_{builder}_backbone", depth
    cfg.MODEL.BACKBONE.PRETRAIN, cfg.INPUT.SIZE_TRAIN = False, list(SIZE)
    return cfg


def refusal(builder: str, depth: str) -> str | None:
    """Why this depth does not convert, or None."""
    cfg = config(builder, depth)
    try:
        Conversion(WIDTHS, DIVISOR).convert_network(build_plain_backbone(cfg, cfg.MODEL.BACKBONE.NAME))
    except InputError as error:
        return str(error)
    return None


def cost(network: nn.Module, size: tuple[int, int]) -> tuple[int, int]:
    """Parameters of a plain network, and its multiply-accumulate operations for one image of this size."""
    network = copy.deepcopy(network).to("meta").eval()
    macs = count_macs(network, torch.empty(1, 3, *size, device="meta"))
    return sum(p.numel() for p in network.parameters()), macs


@torch.no_grad()
def describe(builder: str, depth: str) -> dict[str, Any]:
    """Build, convert, compare and count one backbone. Lists are in the order of the widths."""
    torch.manual_seed(0)
    cfg = config(builder, depth)
    plain = build_plain_backbone(cfg, cfg.MODEL.BACKBONE.NAME)
    network, layout = Conversion(WIDTHS, DIVISOR).convert_network(copy.deepcopy(plain))
    images = torch.randn(2, 3, *SIZE)
    plain.train(), network.train()
    training = _same(plain, network, images)
    for index in network.switch.descending[1:]:
        with network.switch.use(index):
            network(images)  # gives each width its own statistics, different from the full model's
    plain.eval(), network.eval()
    row: dict[str, Any] = {
        "depth": depth,
        "features": [layout.count(index) for index in range(len(WIDTHS))],
        "full_width_equal": {"training": training, "evaluation": _same(plain, network, images)},
        "extraction_equal": [],
        "parameters": [],
        "macs": [],
    }
    for index in range(len(WIDTHS)):
        static = extract_module(network, index)
        with network.switch.use(index):
            row["extraction_equal"].append(_same(static, network, images))
        for key, value in zip(("parameters", "macs"), cost(static, SIZE), strict=True):
            row[key].append(value)
    return row


def _same(one: nn.Module, other: nn.Module, images: Tensor) -> bool:
    """Whether both return the same finite numbers from the same random state (dropout, stochastic depth)."""
    outputs = []
    for network in (one, other):
        torch.manual_seed(0)
        outputs.append(network(images))
    return torch.equal(*outputs) and bool(outputs[0].isfinite().all())
