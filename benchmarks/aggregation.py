"""Aggregation of m gradients without the rest of a step: ours, TorchJD's, and the textbook's loop."""

import argparse
from collections.abc import Callable, Sequence
from typing import Any

import torch
from fastreid.config import CfgNode
from fastreid.modeling.meta_arch import build_model
from torch import Tensor

from switchablecompat.aggregation import GradientAggregation, GradientProjection
from switchablecompat.layers import SharedParameter, shared_parameters

from .step import changed, load
from .timing import Row, compare, interleave


def measure(arguments: argparse.Namespace) -> tuple[list[Row], dict[str, Any]]:
    """Aggregation of 2, 4... gradients against TorchJD's and the textbook's."""
    cfg, rows = load(arguments.config_file, arguments.opts), []
    for m in arguments.widths:
        shared = shared_of(cfg, m)
        gradients = random_gradients(shared, m)
        tasks = {
            "ours": ours(shared, gradients, "global", "full"),
            "default": ours(shared, gradients, "filter", "pairwise"),
            "TorchJD": torchjd(shared, gradients),
            "textbook": textbook(shared, gradients),
        }
        seconds = interleave(tasks, arguments.repeats)
        name = f"PCGrad of {m} gradients"
        rows += [
            compare(name, seconds, "ours", "TorchJD", 1.0, "TorchJD's PCGrad"),
            compare(name, seconds, "ours", "textbook", 0.2, "flatten-and-copy loop"),
            compare(f"{m} gradients, projection per filter", seconds, "default", "TorchJD", None, "TorchJD's PCGrad"),
        ]
        del tasks, gradients, shared
    return rows, {}


def widths_of(m: int) -> list[float]:
    """``m`` evenly spaced width multipliers."""
    return [(i + 1) / m for i in range(m)]


def random_gradients(shared: Sequence[SharedParameter], m: int) -> list[list[Tensor]]:
    """A gradient of every shared parameter per sub-model, zero outside its own elements, as autograd returns them."""
    generator = torch.Generator().manual_seed(0)
    gradients = []
    for index in range(m):
        own = []
        for p in shared:
            gradient = torch.randn(p.parameter.shape, generator=generator).to(p.parameter.device)
            own.append(gradient if p.shells is None else gradient * (p.shells <= index).to(gradient))
        gradients.append(own)
    return gradients


def shared_of(cfg: CfgNode, m: int) -> list[SharedParameter]:
    """The shared parameters of the config's network with ``m`` widths."""
    torch.manual_seed(0)
    return shared_parameters(build_model(changed(cfg, "MODEL.SWITCHABLE.WIDTHS", widths_of(m))))


def ours(
    shared: Sequence[SharedParameter], gradients: list[list[Tensor]], granularity: str, support: str
) -> Callable[[], None]:
    """Our aggregation, from ``.grad`` of each sub-model to the ``.grad`` that the optimiser uses."""
    names = [f"w{index}" for index in range(len(gradients))]
    aggregation = GradientAggregation(shared, names, GradientProjection(support), granularity=granularity)

    def run() -> None:
        for index, own in enumerate(gradients):
            for p, gradient in zip(shared, own, strict=True):
                p.parameter.grad = gradient
            aggregation.collect(index)
        aggregation.aggregate(0)

    return run


def torchjd(shared: Sequence[SharedParameter], gradients: list[list[Tensor]]) -> Callable[[], None]:
    """TorchJD's PCGrad on the same gradients: flattened to a matrix, aggregated, and written back."""
    from torchjd.aggregation import PCGrad  # optional: needed only by this benchmark

    aggregator = PCGrad()

    def run() -> None:
        matrix = torch.stack([torch.cat([gradient.flatten() for gradient in own]) for own in gradients])
        _write(shared, aggregator(matrix))

    return run


def textbook(shared: Sequence[SharedParameter], gradients: list[list[Tensor]]) -> Callable[[], None]:
    """Algorithm 1 of PCGrad (Yu et al. 2020) as usually written: flatten, copy, project one copy after another."""
    generator = torch.Generator()

    def run() -> None:
        generator.manual_seed(0)
        flat = [torch.cat([gradient.flatten() for gradient in own]) for own in gradients]
        projected = [gradient.clone() for gradient in flat]
        for i, v in enumerate(projected):
            for j in torch.randperm(len(flat), generator=generator).tolist():
                if j != i:
                    product = torch.dot(v, flat[j])
                    if product < 0:
                        v -= product / flat[j].norm() ** 2 * flat[j]
        _write(shared, torch.stack(projected).sum(dim=0))

    return run


def _write(shared: Sequence[SharedParameter], flat: Tensor) -> None:
    for p, piece in zip(shared, flat.split([p.parameter.numel() for p in shared]), strict=True):
        p.parameter.grad = piece.view_as(p.parameter)
