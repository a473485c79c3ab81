"""Which trained family a file belongs to, and which versions made it."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import os
import platform
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

CLASSIFIER_KEY = "heads.weight"


def family_digest(state_dict: Mapping[str, Tensor]) -> str:
    """Digest of a trained family's feature space: ``sha256:`` and 64 hex digits.

    Two sub-models are compatible only if they come from the same training run at the same step, that is from the same
    weights; equal configs do not suffice. The digest covers every tensor of the switchable model's state dict but the
    classifier, which features do not depend on.
    """
    digest = hashlib.sha256()
    for key in sorted(state_dict):
        if key == CLASSIFIER_KEY:
            continue
        tensor = state_dict[key].detach().cpu().contiguous()
        digest.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().tobytes())
    return f"sha256:{digest.hexdigest()}"


def versions() -> dict[str, str]:
    """Versions that a result depends on, by package name; a FastReID from a checkout says so."""
    found = {"python": platform.python_version()}
    for package in ("switchablecompat", "fastreid", "torch", "torchvision", "numpy", "pillow"):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "checkout"
    spec = importlib.util.find_spec("fastreid")
    if spec is not None and "site-packages" not in Path(spec.origin or "").parts:
        found["fastreid"] = "checkout"  # first on PYTHONPATH, whatever wheel is installed beside it
    return found


def hardware() -> dict[str, Any]:
    """The machine that a result was made on: ``cpu``, ``cores`` and ``gpu`` (None without one)."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {"cpu": _cpu_model(), "cores": os.cpu_count(), "gpu": gpu}


def _cpu_model() -> str:
    if sys.platform.startswith("linux"):
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
