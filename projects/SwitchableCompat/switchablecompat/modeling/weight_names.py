"""Finds the tensors of a backbone in a file, whatever wrappers and name prefixes the file uses.

Checkpoints come from FastReID, torchreid, strong-baseline, MoCo, DINO, timm and torchvision. One rule reads them all.
Nested dictionaries become dotted names (``state_dict.module.encoder_q.layer1.0.conv1.weight``), and the backbone is at
the prefix behind which most of its own names appear. Everything with another prefix (an optimiser, a second encoder, a
head) is left out. The caller decides about other tensors with the same prefix.
"""

import argparse
import pickle
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from fastreid.utils.checkpoint import Checkpointer
from torch import Tensor

from ..errors import InputError, name_some

DEPTH = 6  # depth of nested dictionaries: a dictionary may contain itself
# Of two networks that are equally good, the one that is not below such a name: MoCo's key encoder follows its query
# encoder, DINO's student is not what is evaluated, averages are beside the weights themselves.
SECOND = ("encoder_k", "momentum_encoder", "student", "ema", "model_ema", "state_dict_ema")
# Tensors beside a backbone in classifiers and re-ID models, which are useless for other identities.
LEFT_OUT = re.compile(
    r"(fc|classifier|bottleneck|head|heads|head_dist|dist_token|pre_logits|pixel_mean|pixel_std)(\..*)?"
)
# Names of the same layers in other projects; the first matching pattern is applied.
RENAMINGS: tuple[tuple[tuple[str, str], ...], ...] = (
    (),
    ((r"\bfeatures\.18\.", "conv."),),  # MobileNetV2 whose last convolution is one of its features
    (  # torchvision's MobileNetV2, which nests convolution, norm and activation
        (r"\bfeatures\.(\d+)\.conv\.0\.(\d)\.", r"features.\1.conv.\2."),
        (r"\bfeatures\.(\d+)\.conv\.1\.0\.", r"features.\1.conv.3."),
        (r"\bfeatures\.(\d+)\.conv\.1\.1\.", r"features.\1.conv.4."),
        (r"\bfeatures\.1\.conv\.1\.", "features.1.conv.3."),
        (r"\bfeatures\.1\.conv\.2\.", "features.1.conv.4."),
        (r"\bfeatures\.(\d+)\.conv\.2\.", r"features.\1.conv.6."),
        (r"\bfeatures\.(\d+)\.conv\.3\.", r"features.\1.conv.7."),
        (r"\bfeatures\.18\.", "conv."),
    ),
)


@dataclass(frozen=True)
class FoundBackbone:
    """A backbone's place in a file."""

    prefix: str  # of the backbone's own names in the file
    weights: dict[str, Tensor]  # all tensors with this prefix, by the backbone's names
    elsewhere: dict[str, Tensor]  # all others, by the file's names


def read_file(path: str) -> dict[Any, Any]:
    """Read the dictionary in a file of :func:`torch.save` to the CPU without executing anything in the file.

    Raises:
        InputError: The file is missing, truncated, no dictionary, or contains code.
    """
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):  # options, which many trainers save beside weights
            content = Checkpointer(torch.nn.Module())._load_file(path)
    except FileNotFoundError:
        raise InputError(path, "must be an existing checkpoint") from None
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, OSError, KeyError) as error:
        raise InputError(path, "must be a whole checkpoint of tensors", str(error).split("\n")[0]) from None
    if not isinstance(content, dict):
        raise InputError(path, "must be a checkpoint or a state dict of tensors", type(content).__name__)
    return content


def find_backbone(path: str, own: Mapping[str, Tensor]) -> FoundBackbone:
    """Read a file and find a backbone in it, an ordinary network with the state dict ``own``.

    Raises:
        InputError: As :func:`read_file`, or the file contains this backbone not at all or more than once.
    """
    tensors = dict(_flat(read_file(path)))
    names = [name for name in own if not name.endswith("num_batches_tracked")]
    tried = [{_renamed(key, renaming): value for key, value in tensors.items()} for renaming in RENAMINGS]
    counts = [_prefixes(renamed, names) for renamed in tried]
    most = max((count for one in counts for count in one.values()), default=0)
    if not most:
        found = name_some(tuple(tensors)) or "no tensors"
        raise InputError(path, f"must hold the tensors of this backbone, such as {name_some(names)}", found)
    best = next(number for number, one in enumerate(counts) if most in one.values())
    prefixes = [prefix for prefix, count in counts[best].items() if count == most]
    first = [prefix for prefix in prefixes if not {*SECOND} & {*prefix.split(".")}] or prefixes
    if len(first) > 1:
        raise InputError(path, "must hold this backbone only once", f"it below {', '.join(map(repr, sorted(first)))}")
    (prefix,) = first
    renamed = tried[best]
    return FoundBackbone(
        prefix,
        {key.removeprefix(prefix): value for key, value in renamed.items() if key.startswith(prefix)},
        {key: value for key, value in renamed.items() if not key.startswith(prefix)},
    )


def _flat(content: Mapping[Any, Any], prefix: str = "", depth: int = DEPTH) -> Iterator[tuple[str, Tensor]]:
    """All tensors, and arrays as tensors, by dotted name."""
    for key, value in content.items():
        if isinstance(value, Mapping) and depth:
            yield from _flat(value, f"{prefix}{key}.", depth - 1)
        elif isinstance(value, Tensor):
            yield f"{prefix}{key}", value
        elif isinstance(value, np.ndarray) and value.dtype.kind in "fiub":
            yield f"{prefix}{key}", torch.as_tensor(value)


def _prefixes(tensors: Mapping[str, Tensor], names: list[str]) -> Counter[str]:
    """Number of the names that appear behind each prefix."""
    wanted, counts = {*names}, Counter[str]()
    for key in tensors:
        parts = key.split(".")
        for first in range(len(parts)):
            if (name := ".".join(parts[first:])) in wanted:
                counts[key.removesuffix(name)] += 1
    return counts


def _renamed(key: str, renaming: tuple[tuple[str, str], ...]) -> str:
    for pattern, replacement in renaming:
        new, count = re.subn(pattern, replacement, key, count=1)
        if count:
            return new
    return key
