"""Opens a registered data set. If FastReID's class fails, the error is one clear line."""

import os
import re
import traceback
import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager

from fastreid.data.datasets import DATASET_REGISTRY
from fastreid.data.datasets.bases import ImageDataset

from ..errors import InputError
from .check import check_test
from .file_names import BY_PATTERN, check_file_names
from .findings import Finding, Item, LabelNames, errors_first
from .manifest import JUNK, SPLITS, ManifestReID
from .overlap import check_overlap
from .streams import seeded

Splits = dict[str, list[Item]]

# Layout below the root that FastReID's classes expect, for those whose errors are uninformative
LAYOUTS = {
    "Market1501": "Market-1501-v15.09.15/{bounding_box_train,query,bounding_box_test}/<pid>_c<camera>*.jpg",
    "DukeMTMC": "DukeMTMC-reID/{bounding_box_train,query,bounding_box_test}/<pid>_c<camera>*.jpg",
    "MSMT17": "MSMT17_V1/{train,test,list_*.txt} or MSMT17_V2/{mask_train_v2,mask_test_v2,list_*.txt}",
    "VeRi": "veri/{image_train,image_query,image_test}/<pid>_c<camera>*.jpg",
    "VehicleID": "vehicleid/image/*.jpg and vehicleid/train_test_split/{train_list,test_list_*}.txt",
    "VeRiWild": "VERI-Wild/images/<pid>/*.jpg and VERI-Wild/train_test_split/{train_list,vehicle_info,test_*}.txt",
}
# Classes that number training and test identities in one sequence, so that equal numbers are the same identity
JOINTLY_NUMBERED = (ManifestReID, *BY_PATTERN)


def fixed_split() -> AbstractContextManager[None]:
    """Make the splits of data sets opened in this block reproducible. VehicleID's class draws its gallery at random.

    Otherwise every process and every evaluation would have a different gallery.
    """
    return seeded(0)


def open_dataset(name: str, root: str, manifest: str, *, combine_all: bool = False) -> tuple[ImageDataset, Splits]:
    """Open a data set of FastReID's registry and read its splits. A failure of its class becomes one clear line.

    ``manifest`` is for ``ManifestReID``. With ``combine_all``, ``train`` has all that ``DATASETS.COMBINEALL`` trains.

    Raises:
        InputError: with the data set, its folder, the content found and the expected layout; or with a file whose name
            the class misreads.
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
    except Exception as error:  # FastReID's classes raise RuntimeError, bare AssertionError, AttributeError...
        raise InputError(f"data set {name}", *_explain(error, name, root)) from error


def _explain(error: Exception, name: str, root: str) -> tuple[str, str]:
    """Rule and found value of the message for a failed data set class."""
    # SmallVeRiWild and similar sets share the folder of VeRiWild
    known = LAYOUTS.get(name) or LAYOUTS.get(re.sub("^(Small|Medium|Large)", "", name))
    layout = known or f"the layout described at class {name} of fastreid.data.datasets"
    if not os.path.isdir(root):
        return f"needs {layout} below {root}", "no such folder (set FASTREID_DATASETS or --root)"
    names = sorted(os.listdir(root))
    there = f"{', '.join(names[:8])}{' ...' if len(names) > 8 else ''}" if names else "an empty folder"
    for frame, _ in traceback.walk_tb(error.__traceback__):
        if "img_path" in frame.f_locals:  # only the frame that read the rejected file knows its name
            there = f"{frame.f_locals['img_path']}, whose name or number the class does not accept"
    reason = f"{type(error).__name__}: {error}".removesuffix(": ")
    return f"needs {layout} below {root} ({reason})", there


def label_names(dataset: ImageDataset) -> LabelNames:
    """Names of the identities and cameras of a data set in messages."""
    return dataset.label_names if isinstance(dataset, ManifestReID) else LabelNames()


def check_rows(dataset: ImageDataset) -> list[Finding]:
    """Findings on a data set's own file: junk rows of a manifest."""
    if not isinstance(dataset, ManifestReID) or not dataset.num_junk:
        return []
    message = f"{dataset.num_junk} rows of {dataset.manifest} have the pid {JUNK[0]} and are left out as junk"
    return [Finding("note", "junk-rows", message, "nothing, or give these images an identity")]


def train_prefix(dataset: ImageDataset) -> str | None:
    """``PREFIX`` if ``PREFIX_<n>`` in the training items is the identity ``n`` of the test items.

    None if both are numbered separately (as in MSMT17).
    """
    return dataset.dataset_name if isinstance(dataset, JOINTLY_NUMBERED) else None


def check_test_set(
    dataset: ImageDataset, splits: Splits, train: Sequence[Item] | None, *, own: bool = True
) -> list[Finding]:
    """Findings on the test items of one data set, and on their overlap with the training items of all (None: skip it).

    ``own``: this data set is also trained, so that equal labels are equal identities.
    """
    names, query, gallery = label_names(dataset), splits["query"], splits["gallery"]
    found = check_test(query, gallery, names)
    if train is not None:
        found += check_overlap(train, [*query, *gallery], train_prefix(dataset), names, literal=own)
    return errors_first(found)
