"""Reading of checkpoints, and loading of trained models for their features."""

from __future__ import annotations

import pickle

import torch
from fastreid.utils.checkpoint import Checkpointer
from torch import Tensor, nn

from ..errors import InputError
from ..provenance import CLASSIFIER_KEY


def read_checkpoint(path: str) -> dict:
    """A FastReID checkpoint on the CPU; nothing in the file is executed.

    Raises:
        InputError: Not a file, truncated, not a checkpoint, or one with code in it.
    """
    try:
        checkpoint = Checkpointer(torch.nn.Module())._load_file(path)
    except FileNotFoundError:
        raise InputError(path, "must be an existing checkpoint") from None
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        raise InputError(path, "must be a whole checkpoint of tensors", str(error).split("\n")[0]) from None
    if not isinstance(checkpoint, dict) or not isinstance(checkpoint.get("model"), dict):
        raise InputError(path, "must be a FastReID checkpoint with the key 'model'", type(checkpoint).__name__)
    return checkpoint


def load_for_evaluation(model: nn.Module, path: str, config: str = "this config") -> Tensor | None:
    """Load a trained model; only the classifier, which features do not need, may be missing or differ.

    Args:
        model: A module whose state dict has the checkpoint's keys.
        path: The checkpoint.
        config: What a message calls the model's config.

    Returns:
        The checkpoint's classifier [K, D], which is not loaded; None if it has none.

    Raises:
        InputError: The file is not a checkpoint of a model of this shape: other widths, depth, layers or dimensions.
    """
    weights = read_checkpoint(path)["model"]
    own = model.state_dict()
    if all(key.startswith("module.") for key in weights):
        weights = {key.removeprefix("module."): value for key, value in weights.items()}
    classifier = weights.pop(CLASSIFIER_KEY, None)
    wrong = [key for key, value in weights.items() if key not in own or own[key].shape != value.shape]
    wrong += [key for key in own if key != CLASSIFIER_KEY and key not in weights]
    if wrong:
        shown = ", ".join(wrong[:3]) + (f" and {len(wrong) - 3} more" if len(wrong) > 3 else "")
        rule = f"must be a checkpoint of {config} (same backbone, widths and embedding); these tensors do not fit"
        raise InputError(path, rule, shown)
    model.load_state_dict(weights, strict=False)
    return classifier
