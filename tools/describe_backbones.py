#!/usr/bin/env python
"""Describe FastReID's backbones: which convert, what each width costs, and whether conversion and extraction are exact.

FastReID's own builder builds every backbone with random weights; then it is converted. The full width is compared bit
for bit with FastReID's network (in evaluation and training mode), and each extracted sub-model with its width.
"""

import startup  # noqa: F401  (before torch is loaded)

# isort: split
from pathlib import Path

from switchablecompat.cli.parsers.shared import Parser
from switchablecompat.errors import exit_on_input_error
from switchablecompat.files import refuse_unwritable_file, write_json

COMMAND = "python tools/describe_backbones.py --json results/backbones.json"
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


def main() -> None:
    """The command line."""
    parser = Parser(description=__doc__, epilog=f"example: {COMMAND}")
    parser.add_argument("--json", type=Path, required=True, metavar="FILE", help="file for the figures")
    parser.add_argument("--family", action="append", choices=FAMILIES, help="only this family; may be repeated")
    args = parser.parse_args()
    refuse_unwritable_file(args.json, "--json")
    from benchmarks import backbones

    write_json(
        args.json, {"command": COMMAND, **backbones.measure({name: FAMILIES[name] for name in args.family or FAMILIES})}
    )


if __name__ == "__main__":
    exit_on_input_error(main)
