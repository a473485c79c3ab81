#!/usr/bin/env python
"""Describe FastReID's backbones: which convert, what each width costs, and whether conversion and extraction are exact.

FastReID's own builder builds every backbone with random weights; then it is converted. The full width is compared bit
for bit with FastReID's network (in evaluation and training mode), and each extracted sub-model with its width.
"""

import startup  # noqa: F401  (before torch is loaded)

# isort: split
import json
from pathlib import Path
from typing import Any

from switchablecompat.cli.parsers.shared import Parser
from switchablecompat.errors import InputError, exit_on_input_error
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


def read_earlier(path: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """The figures in a file that --family updates, made with these settings; none if the file is new."""
    if not path.exists():
        return {"families": [], "versions": {}}
    try:
        content = json.loads(path.read_text())
        names, found = [row["family"] for row in content["families"]], {key: content[key] for key in settings}
        if unknown := {*names} - {*FAMILIES}:
            raise KeyError(*unknown)
        content["versions"].keys()
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(path, "must be what this tool wrote, for --family to update", repr(error)) from None
    if found != settings:
        raise InputError(path, f"must be made with {settings}, for --family to update", found)
    return content


def joined(earlier: dict[str, Any], measured: dict[str, Any]) -> dict[str, Any]:
    """Measured families in place of their earlier rows, and the others' rows, which keep their versions if others."""
    own = {} if earlier["versions"] == measured["versions"] else {"versions": earlier["versions"]}
    rows = {row["family"]: {**own, **row} for row in earlier["families"]}
    rows |= {row["family"]: row for row in measured["families"]}
    return {**measured, "families": [rows[name] for name in FAMILIES if name in rows]}


def main() -> None:
    """The command line."""
    parser = Parser(description=__doc__, epilog=f"example: {COMMAND}")
    parser.add_argument("--json", type=Path, required=True, metavar="FILE", help="file for the figures")
    family = "only this family; FILE keeps the others'; may be repeated"
    parser.add_argument("--family", action="append", choices=FAMILIES, help=family)
    args = parser.parse_args()
    refuse_unwritable_file(args.json, "--json")
    from benchmarks import backbones

    chosen = {name: FAMILIES[name] for name in args.family or FAMILIES}
    earlier = read_earlier(args.json, backbones.SETTINGS) if args.family else None
    measured = backbones.measure(chosen)
    write_json(args.json, {"command": COMMAND, **(joined(earlier, measured) if earlier else measured)})


if __name__ == "__main__":
    exit_on_input_error(main)
