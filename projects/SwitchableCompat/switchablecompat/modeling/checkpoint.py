"""Reads checkpoints, and loads weights with a report of the tensors that fit the model."""

import logging
from collections.abc import Callable, Mapping

import numpy as np
import torch
from fastreid.modeling.backbones.vision_transformer import VisionTransformer
from torch import Tensor, nn

from ..errors import InputError, name_some
from ..layers import WidthSwitch
from ..provenance import CLASSIFIER_KEY
from .vit import fit_positions
from .weight_names import LEFT_OUT, FoundBackbone, find_backbone, read_file

logger = logging.getLogger("fastreid.switchablecompat.checkpoint")

RECORD_KEY = "switchablecompat"  # key of the run's record in a checkpoint, see trained.run_record
# Classifiers of FastReID 1.4, of its earlier versions and of ImageNet models, and other tensors of earlier versions.
CLASSIFIERS = (CLASSIFIER_KEY, "heads.classifier.", "backbone.fc.", "pixel_mean", "pixel_std")
BACKBONE = "backbone."
WHOLE = "must hold the whole backbone of this config and no other"


def _compare(
    own: Mapping[str, Tensor], path: str, weights: Mapping[str, Tensor], expected: Callable[[str], bool], rule: str
) -> tuple[list[str], list[str]]:
    """The tensors of a file that fit a model, and those that do not, where ``expected`` lets them; else refuse."""
    fitting = [key for key, value in own.items() if key in weights and weights[key].shape == value.shape]
    others = {key: "not in this model" for key in weights if key not in own}
    others |= {
        key: f"{_shape(weights[key])}, here {_shape(value)}" if key in weights else "missing"
        for key, value in own.items()
        if key not in {*fitting}
    }
    if harmful := [f"{key} ({why})" for key, why in others.items() if not expected(key)]:
        raise InputError(path, f"{rule}; these tensors do not fit", name_some(harmful))
    return fitting, [*others]


def _load(
    model: nn.Module, path: str, weights: Mapping[str, Tensor], expected: Callable[[str], bool], rule: str
) -> None:
    fitting, absent = _compare(model.state_dict(), path, weights, expected, rule)
    logger.info(f"{path}: {len(fitting)} tensors loaded")
    narrow = [key for key in absent if ".narrow." in key]  # too many: they would hide the others
    if others := [key for key in absent if ".narrow." not in key]:
        logger.info(f"{path}: absent or of another shape, as expected: {name_some(others, 8)}")
    if narrow:
        logger.info(f"{path}: {len(narrow)} tensors of narrow norms are only in the file or only in the model")
    model.load_state_dict({key: weights[key] for key in fitting}, strict=False)


def read_checkpoint(path: str) -> dict:
    """Read a FastReID checkpoint to the CPU without executing anything in the file.

    Raises:
        InputError: The file is missing, truncated, no checkpoint, or contains code.
    """
    checkpoint = read_file(path)
    if not isinstance(checkpoint.get("model"), dict):
        found = name_some(tuple(checkpoint)) or "nothing"
        raise InputError(path, "must be a FastReID checkpoint with the key 'model'", found)
    return checkpoint


def read_weights(path: str, content: dict | None = None) -> dict[str, Tensor]:
    """Read weights, named as in FastReID's Baseline (``backbone.conv1.weight``).

    Accepts FastReID's checkpoints of any version (below ``model``), also with NumPy arrays or of a model in a
    data-parallel wrapper, and plain state dicts of a backbone, such as torchvision's (``conv1.weight``). ``content`` is
    what :func:`read_checkpoint` has read from the file already.

    Raises:
        InputError: As :func:`read_checkpoint`, or the file contains something other than tensors.
    """
    content = read_file(path) if content is None else content
    content = next((content[key] for key in ("model", "state_dict") if isinstance(content.get(key), dict)), content)
    weights = {}
    for key, value in content.items():
        if not isinstance(value, Tensor | np.ndarray):
            raise InputError(path, "must be a checkpoint or a state dict of tensors", f"{key}: {type(value).__name__}")
        weights[str(key).removeprefix("module.")] = torch.as_tensor(value)
    _refuse_non_finite(path, weights)
    if not any(key.startswith(("backbone.", "heads.")) for key in weights):
        weights = {f"backbone.{key}": value for key, value in weights.items()}
    return weights


def load_for_evaluation(
    model: nn.Module, path: str, config: str = "this config", content: dict | None = None
) -> Tensor | None:
    """Load a trained model. Only the classifier may be missing or differ, because features do not need it.

    ``config`` is the name of the model's config in messages, ``content`` what :func:`read_checkpoint` has read already.

    Returns:
        The checkpoint's classifier [K, D], which is not loaded, or None if it has none.

    Raises:
        InputError: The checkpoint belongs to a model with other widths, depth, layers or dimensions.
    """
    weights = read_weights(path, content)
    classifier = weights.pop(CLASSIFIER_KEY, None)
    rule = f"must be a checkpoint of {config} (same backbone, widths and embedding)"
    _load(model, path, weights, _not_for_features, rule)
    return classifier


def load_as_start(model: nn.Module, path: str) -> None:
    """Load the initial weights of a training: a trained model, or the weights of an ordinary backbone.

    The backbone must be complete, because a layer that silently keeps its random values is an expensive mistake. The
    head may differ. Norms of narrow widths that the file lacks start as ``MODEL.SWITCHABLE.SUBMODEL_START`` says. So do
    layers that FastReID adds to a pretrained backbone and initialises as the identity. The file may have any form in
    which :mod:`~switchablecompat.modeling.weight_names` can find a backbone.

    Raises:
        InputError: The file is not of this backbone.
    """
    rule = WHOLE
    if isinstance(switch := getattr(model, "switch", None), WidthSwitch) and switch.widths[-1] < 1.0:
        rule += " (ONLY_WIDTH takes its slice of a full backbone with MODEL.BACKBONE.PRETRAIN_PATH instead)"
    plain = {
        key.removeprefix(BACKBONE): value
        for key, value in model.state_dict().items()
        if key.startswith(BACKBONE) and ".narrow." not in key
    }
    found = find_backbone(path, plain)
    weights = {f"{BACKBONE}{key}": value for key, value in found.weights.items()}
    if found.prefix.endswith(BACKBONE):  # a re-ID model: its head is beside the backbone
        before = found.prefix.removesuffix(BACKBONE)
        head = {key: value for key, value in found.elsewhere.items() if key.startswith(f"{before}heads.")}
        weights |= {key.removeprefix(before): value for key, value in head.items()}
    _load_found(model, path, found, weights, rule)


def load_pretrained(backbone: nn.Module, path: str) -> None:
    """Load an ordinary, unconverted backbone from a file of the same forms as :func:`load_as_start`.

    Raises:
        InputError: The file is not of this backbone.
    """
    found = find_backbone(path, backbone.state_dict())
    weights = fit_positions(backbone, found.weights) if isinstance(backbone, VisionTransformer) else found.weights
    _load_found(backbone, path, found, weights, WHOLE)


def _refuse_non_finite(path: str, weights: Mapping[str, Tensor]) -> None:
    for key, tensor in weights.items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            wrong = tensor[~tensor.isfinite()]
            found = f"{wrong[0].item()} in {key} ({len(wrong)} of {tensor.numel()})"
            raise InputError(path, "must hold finite numbers, as training leaves them", found)


def _load_found(model: nn.Module, path: str, found: FoundBackbone, weights: Mapping[str, Tensor], rule: str) -> None:
    _refuse_non_finite(path, weights)
    own = model.state_dict()
    useless = [key for key in weights if key not in own and LEFT_OUT.fullmatch(key.removeprefix(BACKBONE))]
    weights = {key: value for key, value in weights.items() if key not in {*useless}}
    _load(model, path, weights, _may_start_anew, f"{rule}, here below {found.prefix!r}" if found.prefix else rule)
    beside = found.prefix.removesuffix(BACKBONE)  # prefix of the head, if there is one
    if left_out := [*useless, *(key for key in found.elsewhere if key.removeprefix(beside) not in weights)]:
        logger.info(f"{path}: left out: {name_some(left_out, 8)}")


def check_same(model: nn.Module, path: str, content: dict | None = None) -> None:
    """Reject the checkpoint of another model for a resume. FastReID would only warn and skip tensors that do not fit.

    Raises:
        InputError: A tensor is missing, unknown or of another shape.
    """
    rule = "must be a checkpoint of this config to be resumed"
    _compare(model.state_dict(), path, read_weights(path, content), lambda key: False, rule)


def _not_for_features(key: str) -> bool:
    return key.startswith(CLASSIFIERS) or key.endswith("num_batches_tracked")  # files of torch < 0.4.1 have no counts


def _may_start_anew(key: str) -> bool:
    return _not_for_features(key) or key.startswith("heads.") or ".narrow." in key or "NL_" in key


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "a number"
