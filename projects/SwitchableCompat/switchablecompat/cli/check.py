"""Find errors in a data set before training."""

import argparse
import os
from dataclasses import asdict, replace
from typing import Any

from tabulate import tabulate

from ..config import load_config
from ..data.check import check_images, check_train
from ..data.findings import Finding, Item, LabelNames, errors_first, raise_on_errors, summarise
from ..data.opening import check_rows, check_test_set, label_names, open_dataset
from ..data.overlap import check_contents, check_labels_of_contents
from ..data.training_sets import check_training_sets
from ..files import data_root, refuse_unwritable_file, write_json


def check(arguments: argparse.Namespace) -> tuple[list[dict[str, Any]], list[Finding]]:
    """Check the data sets of the command line; returns the rows of the table and the findings, errors first."""
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
        train = None  # a manifest may be for evaluation only; a config always names a training set
    train_names = LabelNames.of_several([label_names(opened[name][0]) for name in names])
    findings = [one for dataset, _ in opened.values() for one in check_rows(dataset)]
    findings += check_training_sets(sets, train_names)
    if train is not None:
        findings += check_train(train, names=train_names, **settings)
    contents: dict[str, bytes] = {}
    if arguments.images:
        paths = [item[0] for name, split in parts for item in opened[name][1][split]]
        findings += check_images(paths, workers=min(8, os.cpu_count() or 1), contents=contents)
        findings += check_labels_of_contents(train or [], contents, train_names)
    for name in tests:
        dataset, items = opened[name]
        if arguments.manifest and not items["query"] and not items["gallery"]:
            continue
        found = check_test_set(dataset, items, train, own=name in names)
        found += check_contents(train, items["query"], items["gallery"], contents, label_names(dataset))
        findings += [replace(one, message=f"{name}: {one.message}") for one in found]
    return counts, errors_first(findings)


def count(name: str, split: str, items: list[Item]) -> dict[str, Any]:
    """One row of the table: numbers of images, identities and cameras in a split."""
    identities, cameras = ({item[column] for item in items} for column in (1, 2))
    sizes = {"images": len(items), "identities": len(identities), "cameras": len(cameras)}
    return {"data set": name, "split": split, **sizes}


def main(arguments: argparse.Namespace) -> None:
    if arguments.json:
        refuse_unwritable_file(arguments.json, "--json")
    counts, findings = check(arguments)
    print(tabulate(counts, headers="keys"), summarise(findings), sep="\n\n", flush=True)
    if arguments.json:
        content = {"format": 1, "counts": counts, "findings": [asdict(one) for one in findings]}
        write_json(arguments.json, content)
    raise_on_errors(findings)
