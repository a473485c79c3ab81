#!/usr/bin/env python
"""Describe FastReID's backbones: which convert, what each width costs, and whether conversion and extraction are exact.

FastReID's own builder builds every backbone with random weights; then it is converted. The full width is compared bit
for bit with FastReID's network (in evaluation and training mode), and each extracted sub-model with its width.
"""

from __future__ import annotations

import startup  # noqa: F401  (before torch is loaded)

# isort: split
import copy
from pathlib import Path
from typing import Any

import torch
from fastreid.config import CfgNode, get_cfg
from torch import Tensor, nn

from switchablecompat.cli.parsers.shared import Parser
from switchablecompat.deploy.files.graph import count_macs
from switchablecompat.errors import InputError, exit_on_input_error
from switchablecompat.files import refuse_unwritable_file, write_json
from switchablecompat.modeling.backbone import build_plain_backbone
from switchablecompat.modeling.convert import Conversion, extract_module
from switchablecompat.provenance import versions

COMMAND = "python tools/describe_backbones.py --json results/backbones.json"
WIDTHS, DIVISOR, SIZE = [0.25, 0.5, 0.75, 1.0], 8, (256, 128)
# family: (FastReID's builder, the measured depth, all depths that the builder lists)
FAMILIES: dict[str, tuple[str, str, str]] = {
    "ResNet": ("resnet", "50x", "18x 34x 50x 101x"),
    "ResNeXt": ("resnext", "50x", "50x 101x 152x"),
    "ResNeSt": ("resnest", "50x", "50x 101x 200x 269x"),
    "OSNet": ("osnet", "x1_0", "x1_0 x0_75 x0_5 x0_25"),
    "MobileNetV2": ("mobilenetv2", "1.0x", "1.0x 0.75x 0.5x 0.35x 0.25x 0.1x"),
    "MobileNetV3": ("mobilenetv3", "Large", "Large Small"),
    "ShuffleNetV2": ("shufflenetv2", "1.0x", "0.5x 1.0x 1.5x 2.0x"),
    "RegNetX": ("regnet", "800x", "200x 400x 800x 1600x 3200x 4000x 6400x"),
    "RegNetY": ("regnet", "800y", "200y 400y 800y 1600y 3200y 4000y 6400y"),
    "EfficientNet": ("effnet", "b0", "b0 b1 b2 b3 b4 b5"),
    "RepVGG": ("repvgg", "A0", "A0 A1 A2 B0 B1 B2 B3"),
    "RepVGG, grouped": ("repvgg", "B1g4", "B1g2 B1g4 B2g2 B2g4 B3g2 B3g4"),
    "ViT": ("vit", "base", "small base"),
}


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


def main() -> None:
    """The command line."""
    parser = Parser(description=__doc__, epilog=f"example: {COMMAND}")
    parser.add_argument("--json", type=Path, required=True, metavar="FILE", help="file for the figures")
    parser.add_argument("--family", action="append", choices=FAMILIES, help="only this family; may be repeated")
    args = parser.parse_args()
    refuse_unwritable_file(args.json, "--json")
    rows = []
    for family in args.family or FAMILIES:
        builder, depth, depths = FAMILIES[family]
        print(f"{family} {depth}", flush=True)
        refused = {name: reason for name in depths.split() if (reason := refusal(builder, name))}
        converts = [name for name in depths.split() if name not in refused]
        row = {"family": family, "builder": f"build_{builder}_backbone", "converts": converts, "refused": refused}
        rows.append(row | (describe(builder, depth) if depth in converts else {"depth": depth}))
    figures = {"command": COMMAND, "size": SIZE, "widths": WIDTHS, "channel_divisor": DIVISOR, "families": rows}
    write_json(args.json, figures | {"versions": versions()})


if __name__ == "__main__":
    exit_on_input_error(main)
