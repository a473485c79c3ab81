"""Which sub-model's loss reaches which parameters: the claim of the conversion, checked by gradients."""

import torch

from builders import R18, batch, tiny_model
from switchablecompat.layers import SwitchableNorm, shared_parameters


def gradients(model, index):
    data = batch()
    model.zero_grad(set_to_none=True)
    losses, _ = model.submodel_losses(model.preprocess_image(data), data["targets"], index)
    sum(losses.values()).backward()
    return {name: p.grad for name, p in model.named_parameters()}


def check_flow(model):
    shared = {p.name: p for p in shared_parameters(model)}
    private = {name for name, p in model.named_parameters() if p.requires_grad and name not in shared}
    norms = [m for m in model.modules() if isinstance(m, SwitchableNorm)]
    in_norms = {id(p) for norm in norms for p in norm.parameters()}
    assert private == {n for n, p in model.named_parameters() if p.requires_grad and id(p) in in_norms}
    for index, width in enumerate(model.switch.names):
        for name, grad in gradients(model, index).items():
            if name in shared:
                owned = shared[name].shells
                reached = torch.zeros(shared[name].parameter.shape, dtype=torch.bool) if grad is None else grad != 0
                allowed = torch.ones_like(reached) if owned is None else owned <= index
                assert not (reached & ~allowed).any(), f"{width} reaches foreign elements of {name}"
                if ".se.fc." in name or (name == "heads.weight" and index != model.switch.full_index):
                    continue  # an SE layer's four hidden ReLUs can all be dead; the full model trains the classifier
                assert (reached & allowed).any(), f"{width} misses {name}"
            elif name in private:
                mine = f".narrow.{width}." in name or (".narrow." not in name and index == model.switch.full_index)
                assert (grad is not None) == mine, f"{width} and {name}"


def test_each_loss_reaches_exactly_the_parameters_of_its_width_thin():
    check_flow(tiny_model().train())


def test_each_loss_reaches_exactly_the_parameters_of_its_width_r18_ibn_se():
    check_flow(tiny_model(config_file=R18).train())


def test_frozen_neck_bias_is_in_neither_group():
    model = tiny_model()
    assert "heads.bottleneck.1.bias" not in {p.name for p in shared_parameters(model)}
    assert not model.heads.bottleneck[1].bias.requires_grad
