"""The trained family that a file belongs to, and the versions and the machine that made it."""

import hashlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

CLASSIFIER_KEY = "heads.weight"


def family_digest(state_dict: Mapping[str, Tensor], settings: Mapping[str, Any]) -> str:
    """Digest of a trained family's feature space: ``sha256:`` and 64 hex digits.

    Two sub-models are compatible only if they come from the same training run at the same step, that is, from the same
    weights, used in the same way (:func:`~switchablecompat.settings.feature_settings`). Equal configs do not suffice.
    The classifier is left out, because features do not depend on it.
    """
    return weights_digest({key: value for key, value in state_dict.items() if key != CLASSIFIER_KEY}, settings)


def weights_digest(state_dict: Mapping[str, Tensor], settings: Mapping[str, Any]) -> str:
    """Digest of all named tensors and of settings with plain values: ``sha256:`` and 64 hex digits."""
    # Numbers as floats, so that a mean of 0 equals one of 0.0.
    plain = json.dumps({key: _floats(settings[key]) for key in sorted(settings)})
    digest = hashlib.sha256(f"settings {plain}\n".encode())
    for key in sorted(state_dict):
        tensor = state_dict[key].detach().cpu().contiguous()
        digest.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().tobytes())
    return f"sha256:{digest.hexdigest()}"


def json_digest(content: Any) -> str:
    """Digest of what JSON can hold, whatever the order of its keys: ``sha256:`` and 64 hex digits."""
    return f"sha256:{hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()}"


def _floats(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_floats(item) for item in value]
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def versions() -> dict[str, str]:
    """Versions that a result depends on, by package name. The version of a FastReID checkout is ``checkout``."""
    found = {"python": platform.python_version()}
    for package in ("switchablecompat", "fastreid", "torch", "torchvision", "numpy", "pillow"):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "checkout"
    spec = importlib.util.find_spec("fastreid")
    if spec is not None and "site-packages" not in Path(spec.origin or "").parts:
        found["fastreid"] = "checkout"  # it precedes an installed wheel on the path
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
