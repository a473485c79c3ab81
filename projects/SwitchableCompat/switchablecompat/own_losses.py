"""Losses from outside the package, by name. ``MODEL.LOSSES.NAME`` may list them beside ours."""

from collections.abc import Callable, Mapping

from torch import Tensor

from .errors import InputError

OwnLoss = Callable[[Mapping[str, Tensor], Tensor, bool], Tensor]
OWN_LOSSES: dict[str, OwnLoss] = {}
OUR_LOSSES = ("CompatibleLoss", "InfluenceLoss", "AsymmetricLoss", "DistillationLoss")
FASTREID_LOSSES = ("TripletLoss", "CircleLoss", "Cosface")
KEYS = ("compat", "influence", "asymmetric", "distill", "triplet", "circle", "cosface")  # theirs in the log


def register_loss(function: OwnLoss) -> OwnLoss:
    """Register a loss under its function's name. It is added to the losses of every sub-model.

    Args:
        function: Takes the head's outputs for the sub-model (``features`` [N, D], ``neck_features`` [N, D],
            ``cls_outputs`` and ``pred_class_logits`` [N, classes]), the identities [N] int64, and whether the sub-model
            is the full model. Returns a scalar, already scaled.
    """
    name = function.__name__
    taken = (*OUR_LOSSES, *FASTREID_LOSSES, *KEYS, *OWN_LOSSES)
    if name.lower() in map(str.lower, taken):
        raise InputError("register_loss", "must get a name that is not taken, in capitals or small letters", name)
    OWN_LOSSES[name] = function
    return function
