"""Aggregators of TorchJD (an optional package): its weightings, on the Gram matrix of one group after another."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError
from .aggregators import Aggregator

NAMES = ("gradvac", "cagrad", "mgda", "upgrad", "imtl_g")


class TorchJDAggregator(Aggregator):
    """A weighting of TorchJD on everything in a group (support ``full``), whatever the granularity.

    Weights are scaled so that gradients that agree are summed: learning rates keep their meaning. A gradient of norm
    zero (a sub-model that does not train the group) has no influence on the others' weights; with gradvac the targets
    of its pairs decay. A group that overflows gets NaN, which the gradient scaler finds, and leaves no trace in a
    state. A weighting runs on the CPU, one group at a time, in 0.1 ms (imtl_g) to 20 ms (cagrad): prefer few groups.

    Args:
        name: One of :data:`NAMES`.
        beta: Of gradvac: share of the newest cosine in its running target.
        radius: Of cagrad: radius of the ball around the mean gradient, relative to its norm.

    Raises:
        InputError: TorchJD, or a package that this weighting needs, is not installed.
    """

    def __init__(self, name: str, *, beta: float = 0.01, radius: float = 0.4) -> None:
        try:
            from torchjd import aggregation as jd
            from torchjd.linalg import QuadprogProjector

            makers: dict[str, Callable[[], Any]] = {
                "gradvac": lambda: jd.GradVacWeighting(beta),
                "cagrad": lambda: jd.CAGradWeighting(radius),
                "mgda": jd.MGDAWeighting,
                # The default regularisation hides gradients that are a hundred times shorter than others.
                "upgrad": lambda: jd.UPGradWeighting(projector=QuadprogProjector(reg_eps=1e-9)),
                "imtl_g": jd.IMTLGWeighting,
            }
            makers[name]()
        except ImportError as error:
            rule = f"needs pip install '.[torchjd]' ({error})"
            raise InputError("SOLVER.AGGREGATION.NAME", rule, repr(name)) from error
        self.name, self._make = name, makers[name]
        self._of_all = 1 / (1 + radius) if name == "cagrad" else 1.0  # CAGrad adds a step to the mean
        self._weightings: list[Any] = []  # of the groups

    def __repr__(self) -> str:
        return self.name

    def state_dict(self) -> dict[str, Any]:
        """The targets of gradvac, [groups, m, m]; the others keep nothing."""
        states = [weighting.state_dict() for weighting in self._weightings]
        return {key: torch.stack([state[key] for state in states]) for key in (states[0] if states else ())}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for key, values in state.items():
            self._weightings = self._fresh(values)
            for weighting, value in zip(self._weightings, values, strict=True):
                weighting.load_state_dict({key: value})

    def __call__(self, shell_grams: Tensor, generator: torch.Generator, factors: Tensor | None = None) -> Tensor:
        grams = shell_grams.sum(dim=-3).cpu()
        self._weightings = self._weightings or self._fresh(grams)
        seed = int(torch.randint(2**62, (), generator=generator))
        weights = []
        with torch.random.fork_rng(devices=[]):  # gradvac draws its orders from torch's global generator
            for weighting, gram in zip(self._weightings, grams, strict=True):
                torch.default_generator.manual_seed(seed)
                weights.append(self._weights(weighting, gram))
        return torch.stack(weights).to(shell_grams).unsqueeze(-2).expand(shell_grams.shape[:-1])

    def _fresh(self, matrices: Tensor) -> list[Any]:
        weightings = [self._make() for _ in matrices]
        if self.name == "gradvac":
            with torch.random.fork_rng(devices=[]):
                for weighting in weightings:  # makes its targets, and leaves them zero
                    weighting(torch.eye(matrices.shape[-1], dtype=matrices.dtype))
        return weightings

    def _weights(self, weighting: Any, gram: Tensor) -> Tensor:
        if not gram.isfinite().all():
            return torch.full_like(gram[0], torch.nan)
        weights, there = torch.zeros_like(gram[0]), gram.diagonal() > 0
        if there.any():
            scaled = gram / gram.diagonal()[there].mean()  # TorchJD compares with absolute numbers here and there
            if self.name == "gradvac":  # whose targets are of pairs of sub-models; its weights are those of a sum
                return weighting(scaled).where(there, 0.0)
            weights[there] = weighting(scaled[there][:, there]) * int(there.sum()) * self._of_all
        return weights
