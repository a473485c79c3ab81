"""Compiled training on a CPU: the same losses and gradients, and a warning in place of an error."""

import copy

import pytest
import torch

from builders import batch, tiny_config, tiny_model
from switchablecompat.errors import InputError


@pytest.fixture(autouse=True)
def _fresh_compiler():
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def steps_of(model, data, rounds):
    """Losses and gradients of all sub-models, width by width, over some steps; statistics move as in training."""
    found = []
    images = model.preprocess_image(data)
    for _ in range(rounds):
        for index in model.switch.descending:
            losses, _ = model.submodel_losses(images, data["targets"], index)
            sum(losses.values()).backward()
            found += [loss.detach() for loss in losses.values()]
            found += [p.grad.clone() for p in model.parameters() if p.grad is not None]
            model.zero_grad()
        model.end_step()
    return found + [value.clone() for value in model.state_dict().values()]


def test_traced_training_has_the_numbers_of_ordinary_training():
    plain = tiny_model().train()
    traced = copy.deepcopy(plain)
    traced.compile_mode = "aot_eager"
    traced.prepare_training()
    data = batch()
    expected, found = steps_of(plain, data, 2), steps_of(traced, data, 2)
    assert len(expected) == len(found)
    for ours, theirs in zip(found, expected, strict=True):
        # the traced backward may add up a parameter's parts in another order
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)
    assert traced.state_dict().keys() == plain.state_dict().keys(), "nothing of the compiler is in a checkpoint"


def test_what_cannot_be_compiled_is_trained_as_it_is_and_said_once(monkeypatch, caplog):
    def broken(*args, **kwargs):
        def call(images):
            raise RuntimeError("no compiler here\nand a long story")

        return call

    monkeypatch.setattr(torch, "compile", broken)
    plain = tiny_model("MODEL.SWITCHABLE.COMPILE", "reduce-overhead").train()
    data, expected = batch(), copy.deepcopy(plain)
    plain.prepare_training()
    with caplog.at_level("WARNING"):
        found = steps_of(plain, data, 1)
    assert all(torch.equal(a, b) for a, b in zip(found, steps_of(expected, data, 1), strict=True))
    (record,) = [r for r in caplog.records if "COMPILE" in r.getMessage()]
    assert record.getMessage().endswith("training goes on without: RuntimeError: no compiler here")


def test_out_of_memory_is_no_failure_of_the_compiler(monkeypatch):
    def full(*args, **kwargs):
        def call(images):
            raise torch.OutOfMemoryError("full")

        return call

    monkeypatch.setattr(torch, "compile", full)
    model = tiny_model("MODEL.SWITCHABLE.COMPILE", "default").train()
    model.prepare_training()
    with pytest.raises(torch.OutOfMemoryError):
        steps_of(model, batch(), 1)


def test_an_unknown_mode_is_refused():
    with pytest.raises(InputError, match=r"MODEL\.SWITCHABLE\.COMPILE.*found 'fast'"):
        tiny_config("MODEL.SWITCHABLE.COMPILE", "fast")
