"""Which identities a run is trained on, as its checkpoints record it; and whether a reference's are the same."""

import logging
import os
from collections.abc import Mapping, Sequence
from typing import Any

from fastreid.config import CfgNode

from ..config_unread import getter, reference_readers
from ..errors import InputError
from ..modeling.checkpoint import RECORD_KEY, read_checkpoint
from ..provenance import json_digest

logger = logging.getLogger("fastreid.switchablecompat.training_set")


def training_set_record(items: Sequence[tuple[Any, ...]]) -> dict[str, str]:
    """Digests of a training set, whose items are FastReID's ``(path, pid, camid)``.

    Returns:
        ``identities``, in the order of their class vectors; and ``training_set``, the same with the names of their
        images. These matter because some data sets number their identities. Labels alone would not show that they now
        mean other people.
    """
    images: dict[Any, list[str]] = {}
    for path, pid, *_ in items:
        images.setdefault(pid, []).append(os.path.basename(path))
    listed = [[str(pid), sorted(images[pid])] for pid in sorted(images)]
    return {"training_set": json_digest(listed), "identities": json_digest([pid for pid, _ in listed])}


def check_reference_identities(cfg: CfgNode, here: Mapping[str, str]) -> None:
    """Check that the class vectors of a reference, where a loss uses them, are those of this run's training set.

    ``here`` is the :func:`training_set_record` of the run.

    Other images are a warning. The data set may have grown, or number other people alike; and a reference of another
    split may have been trained on this run's test identities.

    Raises:
        InputError: The reference was trained on other identities, or in another order.
    """
    path = cfg.MODEL.REFERENCE.WEIGHTS
    readers = reference_readers(getter(cfg))
    if not readers or not path:
        return
    try:
        there = read_checkpoint(path).get(RECORD_KEY, {})
    except InputError:
        return  # what opens the reference says so
    if "InfluenceLoss" in readers and there.get("identities", here["identities"]) != here["identities"]:
        rule = "must be trained on the training identities of this run, in the same order, for InfluenceLoss"
        raise InputError(f"MODEL.REFERENCE.WEIGHTS {path}", rule, "others")
    if there.get("training_set", here["training_set"]) != here["training_set"]:
        logger.warning(
            f"The reference {path} was trained on other images: this run's test identities may be among them. Its "
            "class vectors, which InfluenceLoss uses, must belong to the same identities in the same order"
        )
