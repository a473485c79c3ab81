"""Opening a registered data set, with one clear line where an upstream class fails."""

from __future__ import annotations

import os
import re
import traceback
import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager

from fastreid.data.datasets import DATASET_REGISTRY
from fastreid.data.datasets.bases import ImageDataset

from ..errors import InputError
from .check import Finding, Item, check_items
from .manifest import SPLITS, ManifestReID
from .streams import seeded

Splits = dict[str, list[Item]]

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


def data_root() -> str:
    """FastReID's folder of data sets: environment variable FASTREID_DATASETS, else ``datasets``."""
    return os.environ.get("FASTREID_DATASETS", "datasets")


def fixed_split() -> AbstractContextManager[None]:
    """Opening a data set in this block gives the same splits always: VehicleID's class draws its gallery at random.

    Without it, every process and every evaluation would have a gallery of its own.
    """
    return seeded(0)


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
        with warnings.catch_warnings(), fixed_split():
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
    # SmallVeRiWild and its like lie where VeRiWild does
    known = LAYOUTS.get(name) or LAYOUTS.get(re.sub("^(Small|Medium|Large)", "", name))
    layout = known or f"the layout described at class {name} of fastreid.data.datasets"
    if not os.path.isdir(root):
        return f"needs {layout} below {root}", "no such folder (set FASTREID_DATASETS or --root)"
    names = sorted(os.listdir(root))
    there = f"{', '.join(names[:8])}{' ...' if len(names) > 8 else ''}" if names else "an empty folder"
    for frame, _ in traceback.walk_tb(error.__traceback__):
        if "img_path" in frame.f_locals:  # only the frame that was reading it knows the file that the class refused
            there = f"{frame.f_locals['img_path']}, whose name or number the class does not accept"
    reason = f"{type(error).__name__}: {error}".removesuffix(": ")
    return f"needs {layout} below {root} ({reason})", there


def check_test_set(
    dataset: ImageDataset, splits: Splits, train: Sequence[Item] | None, *, compare_content: bool = False
) -> list[Finding]:
    """Findings on the test items of one data set, and on what they share with ``train`` (None: not compared)."""
    joint = any(base.__name__ in JOINTLY_NUMBERED for base in type(dataset).__mro__)
    found = check_items(
        train,
        splits["query"],
        splits["gallery"],
        train_prefix=dataset.dataset_name if joint else None,
        compare_content=compare_content,
    )
    on_train = check_items(train, None, None) if train is not None else []
    return [one for one in found if one not in on_train]
