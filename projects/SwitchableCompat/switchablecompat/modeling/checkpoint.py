"""Reading of checkpoints, and loading of weights with a report of what they give a model."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from fastreid.utils.checkpoint import Checkpointer
from torch import Tensor, nn

from ..errors import InputError, name_some
from ..provenance import CLASSIFIER_KEY

logger = logging.getLogger("fastreid.switchablecompat.checkpoint")

# Classifiers of this FastReID, of earlier ones and of ImageNet models, and what earlier ones saved beside the weights.
CLASSIFIERS = (CLASSIFIER_KEY, "heads.classifier.", "backbone.fc.", "pixel_mean", "pixel_std")


@dataclass(frozen=True)
class LoadReport:
    """What a file gives a model, in three groups of tensors.

    Attributes:
        loaded: In both, of one shape.
        absent: In one of them only, or of another shape, as is to be expected.
        harmful: The same where it is not: features would be others than those of the model that was saved.
    """

    loaded: tuple[str, ...]
    absent: tuple[str, ...]
    harmful: tuple[str, ...]

    @classmethod
    def compare(
        cls, own: Mapping[str, Tensor], weights: Mapping[str, Tensor], expected: Callable[[str], bool]
    ) -> LoadReport:
        """Compare a model's state dict with a file's; ``expected`` says which tensors may be absent."""
        loaded = [key for key, value in own.items() if key in weights and weights[key].shape == value.shape]
        others = [key for key in weights if key not in own] + [key for key in own if key not in {*loaded}]
        absent = [key for key in others if expected(key)]
        return cls(tuple(loaded), tuple(absent), tuple(key for key in others if key not in {*absent}))

    def tell(self, path: str) -> None:
        """Log the groups."""
        logger.info(f"{path}: {len(self.loaded)} tensors loaded")
        if self.absent:
            logger.info(f"{path}: absent or of another shape, as expected: {name_some(self.absent, 8)}")

    def refuse_harm(self, path: str, rule: str) -> None:
        """Raise InputError if the third group is not empty."""
        if self.harmful:
            raise InputError(path, f"{rule}; these tensors do not fit", name_some(self.harmful))


def read_checkpoint(path: str) -> dict:
    """A FastReID checkpoint on the CPU; nothing in the file is executed.

    Raises:
        InputError: Not a file, truncated, not a checkpoint, or one with code in it.
    """
    checkpoint = _read(path)
    if not isinstance(checkpoint.get("model"), dict):
        raise InputError(
            path, "must be a FastReID checkpoint with the key 'model'", name_some(tuple(checkpoint)) or "nothing"
        )
    return checkpoint


def read_weights(path: str, content: dict | None = None) -> dict[str, Tensor]:
    """Weights by the names that they have in FastReID's Baseline (``backbone.conv1.weight``).

    Taken are FastReID's checkpoints of any age (below ``model``), also with NumPy arrays or of a model in a
    data-parallel wrapper, and plain state dicts of a backbone, such as torchvision's (``conv1.weight``).

    Args:
        path: The file.
        content: What :func:`read_checkpoint` has read from it already.

    Raises:
        InputError: As :func:`read_checkpoint`, or something else than tensors in it.
    """
    content = _read(path) if content is None else content
    content = next((content[key] for key in ("model", "state_dict") if isinstance(content.get(key), dict)), content)
    weights = {}
    for key, value in content.items():
        if not isinstance(value, Tensor | np.ndarray):
            raise InputError(path, "must be a checkpoint or a state dict of tensors", f"{key}: {type(value).__name__}")
        tensor = weights[str(key).removeprefix("module.")] = torch.as_tensor(value)
        if tensor.is_floating_point() and not tensor.isfinite().all():
            found = f"{int((~tensor.isfinite()).sum())} of {tensor.numel()} in {key} are not"
            raise InputError(path, "must hold finite numbers, as training leaves them", found)
    if not any(key.startswith(("backbone.", "heads.")) for key in weights):
        weights = {f"backbone.{key}": value for key, value in weights.items()}
    return weights


def load_for_evaluation(
    model: nn.Module, path: str, config: str = "this config", content: dict | None = None
) -> Tensor | None:
    """Load a trained model; only the classifier, which features do not need, may be missing or differ.

    Args:
        model: A module whose state dict has the checkpoint's keys.
        path: The checkpoint.
        config: What a message calls the model's config.
        content: What :func:`read_checkpoint` has read from it already.

    Returns:
        The checkpoint's classifier [K, D], which is not loaded; None if it has none.

    Raises:
        InputError: The file is not a checkpoint of a model of this shape: other widths, depth, layers or dimensions.
    """
    weights = read_weights(path, content)
    classifier = weights.pop(CLASSIFIER_KEY, None)
    report = LoadReport.compare(model.state_dict(), weights, _not_for_features)
    report.refuse_harm(path, f"must be a checkpoint of {config} (same backbone, widths and embedding)")
    report.tell(path)
    model.load_state_dict({key: weights[key] for key in report.loaded}, strict=False)
    return classifier


def load_as_start(model: nn.Module, path: str) -> None:
    """Load what a training starts from: a trained model, or the weights of an ordinary backbone.

    The backbone must be whole: a layer that silently stays at its random initial values is the most expensive of
    mistakes. The head may be another one. Norms of narrow widths that the file does not know start as leading slices
    of the full model's; so does what FastReID adds to a pretrained backbone and initialises as the identity.

    Raises:
        InputError: The file is not of this backbone.
    """
    weights = read_weights(path)
    report = LoadReport.compare(model.state_dict(), weights, _may_start_anew)
    report.refuse_harm(path, "must hold the whole backbone of this config and no other")
    report.tell(path)
    model.load_state_dict({key: weights[key] for key in report.loaded}, strict=False)


def check_same(model: nn.Module, path: str, content: dict | None = None) -> None:
    """Refuse to resume from a checkpoint of another model: FastReID would skip what does not fit, with a warning.

    Args:
        model: The model that is to go on.
        path: The checkpoint.
        content: What :func:`read_checkpoint` has read from it already.

    Raises:
        InputError: A tensor is missing, unknown or of another shape.
    """
    report = LoadReport.compare(model.state_dict(), read_weights(path, content), lambda key: False)
    report.refuse_harm(path, "must be a checkpoint of this config to be resumed")


def check_pretrained(backbone: nn.Module, path: str) -> None:
    """See that a builder has really taken all of a backbone's weights from a file, whatever it calls them there.

    FastReID's builders skip, with a line in the log, all tensors whose names they do not know.

    Raises:
        InputError: Some of the backbone's tensors are not the file's.
    """
    weights = read_weights(path)
    by_name: dict[str, list[Tensor]] = {}
    for key, value in weights.items():
        parts = key.split(".")
        for first in range(len(parts)):
            by_name.setdefault(".".join(parts[first:]), []).append(value)

    own = backbone.state_dict()
    loaded = [key for key, value in own.items() if any(_equal(value, other) for other in by_name.get(key, ()))]
    missing = tuple(key for key in own if key not in {*loaded} and not _may_start_anew(key))
    LoadReport(tuple(loaded), (), missing).refuse_harm(path, "must be a state dict of this backbone")


def _not_for_features(key: str) -> bool:
    return key.startswith(CLASSIFIERS) or key.endswith("num_batches_tracked")  # files of torch < 0.4.1 have no counts


def _may_start_anew(key: str) -> bool:
    return _not_for_features(key) or key.startswith("heads.") or ".narrow." in key or "NL_" in key


def _equal(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and torch.equal(one.cpu(), other.to(one.dtype))


def _read(path: str) -> dict:
    try:
        content = Checkpointer(torch.nn.Module())._load_file(path)
    except FileNotFoundError:
        raise InputError(path, "must be an existing checkpoint") from None
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, OSError, KeyError) as error:
        raise InputError(path, "must be a whole checkpoint of tensors", str(error).split("\n")[0]) from None
    if not isinstance(content, dict):
        raise InputError(path, "must be a checkpoint or a state dict of tensors", type(content).__name__)
    return content
