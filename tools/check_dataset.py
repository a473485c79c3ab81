"""Say what is wrong with a data set, before training.

Prints images, identities and cameras per split, and every finding with its fix. Exit code 0 if there is no error
(warnings are allowed), 2 if there is one.
"""

from __future__ import annotations

import argparse
import json
import os
import traceback
import warnings
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any, NoReturn

from tabulate import tabulate

import switchablecompat.data.synthetic  # noqa: F401  registers the generated data sets
from switchablecompat.data.check import LEVELS, Finding, Item, check_images, check_items, raise_on_errors, summarise
from switchablecompat.data.manifest import DATASET_REGISTRY, SPLITS, ImageDataset, ManifestReID
from switchablecompat.errors import InputError, exit_on_input_error

Splits = dict[str, list[Item]]

EXAMPLES = """examples:
  python tools/check_dataset.py --config-file configs/Market1501/sfsc_R50.yml SOLVER.IMS_PER_BATCH 64
  python tools/check_dataset.py --manifest my_images/manifest.csv --images
  python tools/check_dataset.py --dataset Market1501 --root datasets --json check.json
"""

# What the stock classes expect below the root, for those whose failure says least
LAYOUTS = {
    "Market1501": "Market-1501-v15.09.15/{bounding_box_train,query,bounding_box_test}/<pid>_c<camera>*.jpg",
    "DukeMTMC": "DukeMTMC-reID/{bounding_box_train,query,bounding_box_test}/<pid>_c<camera>*.jpg",
    "MSMT17": "MSMT17_V1/{train,test,list_*.txt} or MSMT17_V2/{mask_train_v2,mask_test_v2,list_*.txt}",
    "VeRi": "veri/{image_train,image_query,image_test}/<pid>_c<camera>*.jpg",
    "VehicleID": "vehicleid/image/*.jpg and vehicleid/train_test_split/{train_list,test_list_*}.txt",
    "VeRiWild": "VERI-Wild/images/<pid>/*.jpg and VERI-Wild/train_test_split/{train_list,vehicle_info,test_*}.txt",
}
# Classes whose training and test identities are numbered in one sequence, so that equal numbers are the same identity
JOINTLY_NUMBERED = ("ManifestReID", "Market1501", "DukeMTMC", "VeRi")


class Parser(argparse.ArgumentParser):
    """Bad usage is bad input: one line, exit code 2."""

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing the whole usage."""
        raise InputError("command line", f"{message} (see --help)")


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter)
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


def open_dataset(name: str, root: str, manifest: str) -> tuple[ImageDataset, Splits]:
    """Open a registered data set and read its splits; a failure of the upstream class becomes one clear line.

    Raises:
        InputError: naming the data set, its folder, what is there, and the layout expected.
    """
    try:
        create = DATASET_REGISTRY.get(name)
    except KeyError:
        known = ", ".join(sorted(DATASET_REGISTRY._obj_map))
        raise InputError("data set", f"must be one of {known}", repr(name)) from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Market1501 warns of a layout before it fails on it
            dataset = create(root=root, manifest=manifest)
            if isinstance(dataset, ManifestReID):
                return dataset, {split: dataset.items(split) for split in SPLITS}
            return dataset, {split: list(getattr(dataset, split)) for split in SPLITS}
    except InputError:
        raise
    except Exception as error:  # upstream fails by RuntimeError, bare AssertionError, AttributeError...
        raise InputError(f"data set {name}", *_explain(error, name, root)) from error


def _explain(error: Exception, name: str, root: str) -> tuple[str, str]:
    """Rule and found value for the failure of an upstream data set class."""
    layout = LAYOUTS.get(name) or f"the layout described at class {name} of fastreid.data.datasets"
    if not os.path.isdir(root):
        return f"needs {layout} below {root}", "no such folder (set FASTREID_DATASETS or --root)"
    names = sorted(os.listdir(root))
    there = f"{', '.join(names[:8])}{' ...' if len(names) > 8 else ''}" if names else "an empty folder"
    for frame, _ in traceback.walk_tb(error.__traceback__):
        if "img_path" in frame.f_locals:  # only the frame that was reading it knows the file that the class refused
            there = f"{frame.f_locals['img_path']}, whose name or number the class does not accept"
    reason = f"{type(error).__name__}: {error}".removesuffix(": ")
    return f"needs {layout} below {root} ({reason})", there


def check(arguments: argparse.Namespace) -> tuple[list[dict[str, Any]], list[Finding]]:
    """Check what the command line asks for; returns the rows of the table and the findings."""
    root = arguments.root or os.environ.get("FASTREID_DATASETS", "datasets")
    names = tests = [arguments.dataset or "ManifestReID"]
    manifest, settings = arguments.manifest or "", {}
    if arguments.config_file:
        from switchablecompat.config import load_config

        cfg = load_config(arguments.config_file, arguments.opts)
        names, tests, manifest = list(cfg.DATASETS.NAMES), list(cfg.DATASETS.TESTS), cfg.DATASETS.MANIFEST
        settings = {
            "ims_per_batch": cfg.SOLVER.IMS_PER_BATCH,
            "num_instance": cfg.DATALOADER.NUM_INSTANCE,
            "sampler": cfg.DATALOADER.SAMPLER_TRAIN,
        }
    opened = {name: open_dataset(name, root, manifest) for name in dict.fromkeys([*names, *tests])}
    parts = [(name, "train") for name in names] + [(name, split) for name in tests for split in ("query", "gallery")]
    counts = [count(name, split, opened[name][1][split]) for name, split in parts]

    train: list[Item] | None = [item for name in names for item in opened[name][1]["train"]]
    if arguments.manifest and not train:
        train = None  # a manifest for evaluation; a config, on the other hand, names its training set
    findings = check_items(train, None, None, **settings)
    for name in tests:
        dataset, items = opened[name]
        if arguments.manifest and not items["query"] and not items["gallery"]:
            continue
        joint = name in names and any(base.__name__ in JOINTLY_NUMBERED for base in type(dataset).__mro__)
        found = check_items(
            train,
            items["query"],
            items["gallery"],
            train_prefix=dataset.dataset_name if joint else None,
            compare_content=arguments.images,
            **settings,
        )
        findings += [replace(one, message=f"{name}: {one.message}") for one in found if one not in findings]
    if arguments.images:
        paths = [item[0] for name, split in parts for item in opened[name][1][split]]
        findings += check_images(paths, workers=min(8, os.cpu_count() or 1))
    return counts, sorted(findings, key=lambda finding: LEVELS.index(finding.level))


def count(name: str, split: str, items: list[Item]) -> dict[str, Any]:
    """One row of the table."""
    identities, cameras = ({item[column] for item in items} for column in (1, 2))
    sizes = {"images": len(items), "identities": len(identities), "cameras": len(cameras)}
    return {"data set": name, "split": split, **sizes}


def write_json(path: str, counts: list[dict[str, Any]], findings: list[Finding]) -> None:
    """Write the result as data; the file appears only when it is complete."""
    partial = f"{path}.partial-{os.getpid()}"
    try:
        with open(partial, "w", encoding="utf-8") as file:
            json.dump({"format": 1, "counts": counts, "findings": [asdict(one) for one in findings]}, file, indent=2)
            file.write("\n")
        os.replace(partial, path)
    except OSError as error:
        raise InputError(path, "must be a file that can be written", error) from error


def main() -> int:
    """Run the command."""
    arguments = parse_arguments()
    counts, findings = check(arguments)
    print(tabulate(counts, headers="keys"), summarise(findings), sep="\n\n", flush=True)
    if arguments.json:
        write_json(arguments.json, counts, findings)
    raise_on_errors(findings)
    return 0


if __name__ == "__main__":
    exit_on_input_error(main)
