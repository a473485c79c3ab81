"""The optimiser's step on a GPU, with few kernels. The decision to skip a step stays on the device."""

import inspect

import torch
from torch import Tensor
from torch.optim import Optimizer

FUSED = (torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW)


def fuse(optimizer: Optimizer) -> None:
    """Let an optimiser on a GPU use PyTorch's fused kernels, if there are any, and any other do without them.

    A fused step checks on the device whether the gradient scaler found an overflow. Other steps make the scaler wait
    for the device. Call this again after loading a state, which says whether the optimiser that wrote it was fused.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    if can_be_fused(optimizer) and all(p.is_cuda for p in parameters):
        use_fused_kernels(optimizer)
    elif is_fused(optimizer):
        for group in optimizer.param_groups:
            group.update(fused=None, foreach=None)


def can_be_fused(optimizer: Optimizer) -> bool:
    """Whether the optimiser's step is that of a class for which PyTorch has fused kernels.

    FastReID's subclasses that clip gradients in their step need unscaled gradients, but a fused step gets scaled ones.
    """
    steps = [inspect.unwrap(kind.step) for kind in FUSED]  # torch wraps a class's step when it is first built
    if any(group.get("dampening") for group in optimizer.param_groups):
        return False  # it spares the first step, which momenta that start from zero do not know
    return isinstance(optimizer, FUSED) and inspect.unwrap(type(optimizer).step) in steps


def use_fused_kernels(optimizer: Optimizer) -> None:
    """Let an optimiser, one of :data:`FUSED`, use fused kernels on any device.

    They walk through memory, so moments from a run with another memory format get the parameters' strides. SGD's
    momenta start from zero: if the first step is skipped, PyTorch's fused kernel leaves them without any value.
    """
    for group in optimizer.param_groups:
        group.update(fused=True, foreach=False)
        if group.get("momentum"):
            for parameter in group["params"]:
                if optimizer.state[parameter].get("momentum_buffer") is None:
                    optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter, requires_grad=False)
    for parameter, state in optimizer.state.items():
        if "step" in state:
            state["step"] = torch.as_tensor(state["step"], dtype=torch.float32).to(parameter.device)
        for key, value in state.items():
            if torch.is_tensor(value) and value.shape == parameter.shape and value.stride() != parameter.stride():
                state[key] = torch.empty_like(parameter, dtype=value.dtype, requires_grad=False).copy_(value)
    optimizer._step_supports_amp_scaling = True  # type: ignore[attr-defined]  # read by GradScaler


def is_fused(optimizer: Optimizer) -> bool:
    return all(group.get("fused") for group in optimizer.param_groups)


def step_if(optimizer: Optimizer, finite: Tensor) -> None:
    """Step a fused optimiser without a scaler if ``finite``, one bool on the device, is true; without a wait for it."""
    optimizer.grad_scale = None  # type: ignore[attr-defined]  # as GradScaler.step passes it to fused optimisers
    optimizer.found_inf = (~finite).float().reshape(())  # type: ignore[attr-defined]
    try:
        optimizer.step()
    finally:
        del optimizer.grad_scale, optimizer.found_inf  # type: ignore[attr-defined]
