"""Fused optimisers: the same update, and none where the device says so."""

import copy

import pytest
import torch

from builders import tiny_config, tiny_model
from switchablecompat.engine import SwitchableTrainer
from switchablecompat.engine.fused_optimizer import can_be_fused, fuse, is_fused, step_if, use_fused_kernels

OPTIONS = {"SGD": {"momentum": 0.9, "nesterov": True}, "Adam": {}, "AdamW": {}}


def pair(name):
    """An optimiser as it is and a fused one, on equal parameters with equal gradients."""
    optimizers = []
    for _ in range(2):
        parameters = [torch.nn.Parameter(torch.arange(1.0, 7.0).view(2, 3)), torch.nn.Parameter(torch.ones(4))]
        optimizers.append(getattr(torch.optim, name)(parameters, lr=0.1, weight_decay=0.01, **OPTIONS[name]))
        for p in parameters:
            p.grad = p.detach().cos()
    use_fused_kernels(optimizers[1])
    return optimizers


def values(optimizer):
    return [p.detach().clone() for group in optimizer.param_groups for p in group["params"]]


@pytest.mark.parametrize("name", OPTIONS)
def test_a_fused_optimiser_moves_parameters_as_the_plain_one(name):
    plain, fused = pair(name)
    for _ in range(3):
        plain.step()
        step_if(fused, torch.tensor(True))
    for a, b in zip(values(plain), values(fused), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)  # another order of the same few operations


@pytest.mark.parametrize("name", OPTIONS)
def test_what_is_not_finite_is_skipped_and_leaves_no_trace(name):
    plain, fused = pair(name)
    plain.step()
    step_if(fused, torch.tensor(True))
    before, good = values(fused), [p.grad.clone() for p in fused.param_groups[0]["params"]]
    for p in fused.param_groups[0]["params"]:
        p.grad.fill_(float("nan"))
    step_if(fused, torch.tensor(False))
    assert all(torch.equal(a, b) for a, b in zip(values(fused), before, strict=True))
    for p, gradient in zip(fused.param_groups[0]["params"], good, strict=True):
        p.grad.copy_(gradient)
    plain.step()
    step_if(fused, torch.tensor(True))
    for a, b in zip(values(plain), values(fused), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
    assert not hasattr(fused, "found_inf")


@pytest.mark.parametrize("name", OPTIONS)
def test_a_first_step_that_is_skipped_leaves_no_trace(name, monkeypatch):
    """PyTorch's fused SGD allocates its momenta in the first step; here memory without a value is NaN."""
    monkeypatch.setattr(torch.utils.deterministic, "fill_uninitialized_memory", True)
    torch.use_deterministic_algorithms(True)
    try:
        plain, fused = pair(name)
        step_if(fused, torch.tensor(False))
        plain.step()
        step_if(fused, torch.tensor(True))
    finally:
        torch.use_deterministic_algorithms(False)
    for a, b in zip(values(plain), values(fused), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_dampening_which_spares_the_first_step_is_not_fused():
    parameter = torch.nn.Parameter(torch.ones(2))
    assert not can_be_fused(torch.optim.SGD([parameter], lr=0.1, momentum=0.9, dampening=0.1))


@pytest.mark.parametrize("name", OPTIONS)
def test_the_state_of_a_plain_optimiser_goes_on_fused(name):
    plain, fused = pair(name)
    plain.step()
    fused.load_state_dict(copy.deepcopy(plain.state_dict()))
    for mine, theirs in zip(fused.param_groups[0]["params"], plain.param_groups[0]["params"], strict=True):
        mine.data.copy_(theirs)
    assert not is_fused(fused)
    use_fused_kernels(fused)
    plain.step()
    step_if(fused, torch.tensor(True))
    for a, b in zip(values(plain), values(fused), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", OPTIONS)
def test_moments_of_another_memory_format_go_on_fused(name):
    start = torch.randn(4, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    found = []
    for last in (False, True):
        parameter = torch.nn.Parameter(start.clone())
        optimizer = getattr(torch.optim, name)([parameter], lr=0.1, **OPTIONS[name])
        parameter.grad = start.cos()
        optimizer.step()
        if last:
            moved = torch.nn.Parameter(parameter.detach().to(memory_format=torch.channels_last))
            continued = getattr(torch.optim, name)([moved], lr=0.1, **OPTIONS[name])
            continued.load_state_dict(optimizer.state_dict())
            use_fused_kernels(continued)
            moved.grad = torch.empty_like(moved).copy_(start.sin())
            step_if(continued, torch.tensor(True))
            found.append(moved.detach())
        else:
            parameter.grad = start.sin()
            optimizer.step()
            found.append(parameter.detach())
    torch.testing.assert_close(*found, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", OPTIONS)
def test_the_state_of_a_fused_optimiser_goes_on_plain_on_a_cpu(name):
    """It says that it was fused, and the fused kernels of a CPU mix up elements of another memory format."""
    start = torch.randn(4, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    found = []
    for fused, format in ((False, torch.contiguous_format), (True, torch.channels_last)):
        parameter = torch.nn.Parameter(start.clone())
        optimizer = getattr(torch.optim, name)([parameter], lr=0.1, **OPTIONS[name])
        if fused:
            use_fused_kernels(optimizer)
        parameter.grad = start.cos()
        optimizer.step()
        moved = torch.nn.Parameter(parameter.detach().to(memory_format=format))
        continued = getattr(torch.optim, name)([moved], lr=0.1, **OPTIONS[name])
        continued.load_state_dict(optimizer.state_dict())
        fuse(continued)
        assert not is_fused(continued)
        moved.grad = start.sin()
        continued.step()
        found.append(moved.detach())
    torch.testing.assert_close(*found, rtol=1e-5, atol=1e-6)


def test_on_a_cpu_nothing_changes():
    plain, _ = pair("SGD")
    fuse(plain)
    assert not is_fused(plain)


@pytest.mark.parametrize(("clips", "expected"), [(False, True), (True, False)])
def test_an_optimiser_that_clips_gradients_is_left_as_it_is(clips, expected):
    cfg = tiny_config("SOLVER.CLIP_GRADIENTS.ENABLED", clips)
    optimizer, _ = SwitchableTrainer.build_optimizer(cfg, tiny_model())
    assert can_be_fused(optimizer) is expected
