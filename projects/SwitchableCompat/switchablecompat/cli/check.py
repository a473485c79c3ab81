"""Say what is wrong with a data set, before training.

Prints images, identities and cameras per split, and every finding with its fix. Exit code 0 if there is no error
(warnings are allowed), 2 if there is one.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

from tabulate import tabulate

import startup
from switchablecompat.config import load_config
from switchablecompat.data.check import check_images, check_items
from switchablecompat.data.findings import LEVELS, Finding, Item, LabelNames, raise_on_errors, summarise
from switchablecompat.data.opening import check_rows, check_test_set, data_root, label_names, open_dataset
from switchablecompat.data.overlap import check_contents, check_training_contents
from switchablecompat.data.training_sets import check_training_sets
from switchablecompat.errors import InputError, exit_on_input_error
from switchablecompat.files import refuse_unwritable_file, write_json

EXAMPLES = """examples:
  python tools/check_dataset.py --config-file configs/Market1501/sfsc_R50.yml SOLVER.IMS_PER_BATCH 64
  python tools/check_dataset.py --manifest my_images/manifest.csv --images
  python tools/check_dataset.py --dataset Market1501 --root datasets --json check.json
"""


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = startup.Parser(description=__doc__, epilog=EXAMPLES)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--config-file", metavar="F", help="check what this config would train and test on")
    source.add_argument("--manifest", metavar="CSV", help="check the images of a manifest")
    source.add_argument("--dataset", metavar="NAME", help="check a data set by its name in FastReID's registry")
    parser.add_argument("--root", metavar="DIR", help="data set folder (default: $FASTREID_DATASETS, else datasets)")
    parser.add_argument("--images", action="store_true", help="also decode every image, and compare query with gallery")
    parser.add_argument("--json", metavar="FILE", help="also write counts and findings to this file")
    parser.add_argument("opts", nargs="*", metavar="KEY VALUE", help="config keys to override (with --config-file)")
    arguments = parser.parse_intermixed_args(argv)
    if arguments.opts and not arguments.config_file:
        parser.error(f"KEY VALUE needs --config-file, found {' '.join(arguments.opts)}")
    return arguments


def check(arguments: argparse.Namespace) -> tuple[list[dict[str, Any]], list[Finding]]:
    """Check what the command line asks for; returns the rows of the table and the findings."""
    root = arguments.root or data_root()
    names = tests = [arguments.dataset or "ManifestReID"]
    manifest, settings, combine_all = arguments.manifest or "", {}, False
    if arguments.config_file:
        cfg = load_config(arguments.config_file, arguments.opts)
        names, tests, manifest = list(cfg.DATASETS.NAMES), list(cfg.DATASETS.TESTS), cfg.DATASETS.MANIFEST
        combine_all = cfg.DATASETS.COMBINEALL
        settings = {
            "ims_per_batch": cfg.SOLVER.IMS_PER_BATCH,
            "num_instance": cfg.DATALOADER.NUM_INSTANCE,
            "sampler": cfg.DATALOADER.SAMPLER_TRAIN,
        }
    opened = {
        name: open_dataset(name, root, manifest, combine_all=combine_all and name in names)
        for name in dict.fromkeys([*names, *tests])
    }
    parts = [(name, "train") for name in names] + [(name, split) for name in tests for split in ("query", "gallery")]
    counts = [count(name, split, opened[name][1][split]) for name, split in parts]

    sets = [(name, opened[name][1]["train"]) for name in names]
    train: list[Item] | None = [item for _, items in sets for item in items]
    if arguments.manifest and not train:
        train = None  # a manifest for evaluation; a config, on the other hand, names its training set
    train_names = LabelNames.of_several([label_names(opened[name][0]) for name in names])
    findings = [one for dataset, _ in opened.values() for one in check_rows(dataset)]
    findings += check_training_sets(sets, train_names) + check_items(train, None, None, names=train_names, **settings)
    contents: dict[str, bytes] = {}
    if arguments.images:
        paths = [item[0] for name, split in parts for item in opened[name][1][split]]
        findings += check_images(paths, workers=min(8, os.cpu_count() or 1), contents=contents)
        findings += check_training_contents(train or [], contents, train_names)
    for name in tests:
        dataset, items = opened[name]
        if arguments.manifest and not items["query"] and not items["gallery"]:
            continue
        found = check_test_set(dataset, items, train, own=name in names)
        found += check_contents(train, items["query"], items["gallery"], contents, label_names(dataset))
        findings += [replace(one, message=f"{name}: {one.message}") for one in found]
    return counts, sorted(findings, key=lambda finding: LEVELS.index(finding.level))


def count(name: str, split: str, items: list[Item]) -> dict[str, Any]:
    """One row of the table."""
    identities, cameras = ({item[column] for item in items} for column in (1, 2))
    sizes = {"images": len(items), "identities": len(identities), "cameras": len(cameras)}
    return {"data set": name, "split": split, **sizes}


def write_result(path: str, counts: list[dict[str, Any]], findings: list[Finding]) -> None:
    """Write the result as data; the file appears only when it is complete."""
    content = {"format": 1, "counts": counts, "findings": [asdict(one) for one in findings]}
    try:
        write_json(path, content)
    except OSError as error:
        raise InputError(path, "must be a file that can be written", error) from error


def main() -> int:
    """Run the command."""
    arguments = parse_arguments()
    if arguments.json:
        refuse_unwritable_file(arguments.json, "--json")
    counts, findings = check(arguments)
    print(tabulate(counts, headers="keys"), summarise(findings), sep="\n\n", flush=True)
    if arguments.json:
        write_result(arguments.json, counts, findings)
    raise_on_errors(findings)
    return 0


if __name__ == "__main__":
    exit_on_input_error(main)
