"""Ownership: which parameters, and which of their elements, belong to which sub-model."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .channels import ChannelLayout
from .switchable_norm import SwitchableNorm


@dataclass(frozen=True)
class SharedParameter:
    """A parameter that several sub-models train, with its full name in the model.

    ``shells`` is the smallest sub-model that owns each element, int64 of the parameter's shape. (Sub-models are nested,
    so all larger ones own it too.) It is None if every sub-model owns the whole parameter.
    """

    name: str
    parameter: nn.Parameter
    shells: Tensor | None


def private_parameters(model: nn.Module) -> list[nn.Parameter]:
    """Trainable parameters of switchable norm layers, which belong to one width each; every parameter once."""
    norms = [module for module in model.modules() if isinstance(module, SwitchableNorm)]
    return list(dict.fromkeys(p for norm in norms for p in norm.parameters() if p.requires_grad))


def shared_parameters(model: nn.Module) -> list[SharedParameter]:
    """Trainable parameters that more than one sub-model can train, in the order of ``named_parameters``."""
    private = {id(p) for p in private_parameters(model)}
    axes: dict[int, tuple[ChannelLayout, ...]] = {}
    for module in model.modules():
        if (own_axes := getattr(module, "axes", None)) is not None:
            axes.update({id(module._parameters[key]): value for key, value in own_axes().items()})
    shared = []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and id(parameter) not in private:
            layouts = axes.get(id(parameter), ())
            fixed = all(layout.is_fixed for layout in layouts)
            shared.append(SharedParameter(name, parameter, None if fixed else _shells(parameter, layouts)))
    return shared


def _shells(parameter: Tensor, axes: Sequence[ChannelLayout]) -> Tensor:
    shells = torch.zeros(parameter.shape, dtype=torch.int64)
    for dim, layout in enumerate(axes):
        view = [1] * parameter.dim()
        view[dim] = -1
        shells = torch.maximum(shells, layout.owner().view(view))
    return shells
