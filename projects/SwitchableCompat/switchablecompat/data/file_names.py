"""Detects file names that the patterns of FastReID's classes misread.

The pattern for Market-1501 and DukeMTMC-reID, ``([-\\d]+)_c(\\d)``, reads one digit for the camera, so camera 13
becomes camera 1. It uses the first match in the whole path, so a folder called ``5_c1`` would label all images. VeRi's
pattern reads three digits and no sign, so the junk identity -1 becomes identity 1.
"""

import os
import re
from collections.abc import Sequence

from fastreid.data.datasets.bases import ImageDataset
from fastreid.data.datasets.dukemtmcreid import DukeMTMC
from fastreid.data.datasets.market1501 import Market1501
from fastreid.data.datasets.veri import VeRi

from ..errors import InputError
from .findings import Item

BY_PATTERN = (Market1501, DukeMTMC, VeRi)
WHOLE = re.compile(r"(-?\d+)_c(\d+)(?!\d)")


def check_file_names(dataset: ImageDataset, items: Sequence[Item]) -> None:
    """Reject files whose identity or camera a class misreads.

    Raises:
        InputError: with the file, its labels, FastReID's reading of them, and a remedy.
    """
    kind = type(dataset)
    if not any(kind.process_dir is base.process_dir for base in BY_PATTERN if issubclass(kind, base)):
        return  # reads its names without a pattern
    for path, pid, camid in items:
        found = WHOLE.search(os.path.basename(path))
        read = _number(pid), _number(camid) + 1  # cameras count from 0 in items
        if found is None or (int(found[1]), int(found[2])) != read:
            says = f"identity {int(found[1])} and camera {int(found[2])}" if found else "neither"
            rule = (
                f"is read as identity {read[0]} and camera {read[1]} by FastReID's class {kind.__name__}; "
                "list the images in a manifest (data set ManifestReID)"
            )
            raise InputError(path, rule, f"a name that says {says}")


def _number(label: object) -> int:
    """The number in a label such as ``market1501_12`` or, with COMBINEALL, ``market1501_test_12``."""
    return int(str(label).rsplit("_", 1)[-1])
