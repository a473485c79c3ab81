"""Groups of parameters, or of their output channels, that share one Gram matrix."""

from collections.abc import Sequence
from typing import NamedTuple

from ..layers import SharedParameter

GRANULARITIES = ("none", "global", "layer", "tensor", "filter")


class Group(NamedTuple):
    """Group of a parameter: that of all parameters with the same ``name``."""

    name: str
    by_filter: bool = False  # split by output channel, the parameters' first axis
    compared: bool = True  # gradients are compared within the group; otherwise they are summed


def groups_of(
    shared: Sequence[SharedParameter], granularity: str, exceptions: dict[str, str] | None = None
) -> list[Group]:
    """The group of each parameter.

    ``global``: one group. ``layer``: one group per module. ``tensor``: one per parameter. ``filter``: one per output
    channel of a layer, with its weights and its bias. Parameters without an output channel (GeM's exponent, a layer
    scale) are summed, because single numbers that are compared cancel whenever their signs differ. ``none``: all
    parameters are summed. ``exceptions``: different granularity of some parameters, by name.
    """
    by_name = {p.name: p for p in shared}
    exceptions = exceptions or {}
    return [_group(p, exceptions.get(p.name, granularity), by_name) for p in shared]


def _group(p: SharedParameter, granularity: str, by_name: dict[str, SharedParameter]) -> Group:
    if granularity not in GRANULARITIES:
        raise ValueError(f"granularity must be one of {GRANULARITIES}, found {granularity!r}")
    layer, _, key = p.name.rpartition(".")
    if granularity == "global":
        return Group("all")
    if granularity == "layer":
        return Group(layer)
    if granularity == "tensor":
        return Group(p.name)
    if p.parameter.dim() > 1:
        return Group(p.name, by_filter=True, compared=granularity != "none")
    weight = by_name.get(f"{layer}.{key.replace('bias', 'weight')}")  # also for in_proj_bias
    filters = weight is not None and weight.parameter.dim() > 1 and weight.parameter.shape[0] == p.parameter.numel()
    if weight is not None and filters and granularity == "filter":
        return Group(weight.name, by_filter=True)
    return Group(p.name, compared=False)
