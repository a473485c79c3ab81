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
from .check import check_items
from .file_names import check_file_names
from .findings import LEVELS, Finding, Item, LabelNames
from .manifest import JUNK, SPLITS, ManifestReID
from .overlap import check_overlap
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


def open_dataset(name: str, root: str, manifest: str, *, combine_all: bool = False) -> tuple[ImageDataset, Splits]:
    """Open a registered data set and read its splits; a failure of the upstream class becomes one clear line.

    Args:
        name: its name in FastReID's registry.
        root: FastReID's folder of data sets.
        manifest: the CSV, for ``ManifestReID``.
        combine_all: the split ``train`` has what ``DATASETS.COMBINEALL`` trains.

    Raises:
        InputError: naming the data set, its folder, what is there, and the layout expected; or a file whose name the
            upstream class misreads.
    """
    try:
        create = DATASET_REGISTRY.get(name)
    except KeyError:
        known = ", ".join(sorted(DATASET_REGISTRY._obj_map))
        raise InputError("data set", f"must be one of {known}", repr(name)) from None
    try:
        with warnings.catch_warnings(), fixed_split():
            warnings.simplefilter("ignore")  # Market1501 warns of a layout before it fails on it
            dataset = create(root=root, manifest=manifest, combineall=combine_all)
            if isinstance(dataset, ManifestReID):
                splits = {split: dataset.items(split) for split in SPLITS}
                return dataset, {**splits, "train": dataset.train} if combine_all else splits
            splits = {split: list(getattr(dataset, split)) for split in SPLITS}
            check_file_names(dataset, [item for split in SPLITS for item in splits[split]])
            return dataset, splits
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


def label_names(dataset: ImageDataset) -> LabelNames:
    """What messages call the identities and cameras of a data set."""
    return dataset.label_names if isinstance(dataset, ManifestReID) else LabelNames()


def check_rows(dataset: ImageDataset) -> list[Finding]:
    """What is to be said of a data set's own file: rows of a manifest that are junk."""
    if not isinstance(dataset, ManifestReID) or not dataset.num_junk:
        return []
    message = f"{dataset.num_junk} rows of {dataset.manifest} have the pid {JUNK[0]} and are left out as junk"
    return [Finding("note", "junk-rows", message, "nothing, or give these images an identity")]


def train_prefix(dataset: ImageDataset) -> str | None:
    """See :func:`~.check.check_items`."""
    joint = any(base.__name__ in JOINTLY_NUMBERED for base in type(dataset).__mro__)
    return dataset.dataset_name if joint else None


def check_test_set(
    dataset: ImageDataset, splits: Splits, train: Sequence[Item] | None, *, own: bool = True
) -> list[Finding]:
    """Findings on the test items of one data set, and on what they share with what is trained.

    Args:
        dataset: as :func:`open_dataset` gives it.
        splits: its items.
        train: all that is trained, of whatever data set; None: not compared.
        own: whether this data set is among what is trained, so that equal labels are equal identities.
    """
    names, query, gallery = label_names(dataset), splits["query"], splits["gallery"]
    found = check_items(None, query, gallery, names=names)
    if train is not None:
        found += check_overlap(train, [*query, *gallery], train_prefix(dataset), names, literal=own)
    return sorted(found, key=lambda finding: LEVELS.index(finding.level))
