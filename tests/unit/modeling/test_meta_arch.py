from types import FunctionType

import pytest
import torch
from fastreid.modeling.meta_arch import build_model
from fastreid.modeling.meta_arch.baseline import Baseline

from builders import R18, batch, images, tiny_config, tiny_model
from switchablecompat import extract_submodel
from switchablecompat.errors import InputError
from switchablecompat.layers import SwitchableNorm
from switchablecompat.losses import register_loss
from switchablecompat.modeling.meta_arch import PAIR_LOSSES
from switchablecompat.own_losses import OWN_LOSSES


@pytest.mark.parametrize("config_file", ["configs/quick/sfsc_tiny.yml", R18])
def test_extracted_sub_models_are_plain_and_equal_bit_for_bit(config_file):
    model = tiny_model(config_file=config_file).eval()
    x = images(3, 64, 32)
    sizes = []
    for index, width in enumerate(model.switch.widths):
        static = extract_submodel(model, width)
        assert type(static) is Baseline
        with model.switch.use(index), torch.no_grad():
            assert torch.equal(static({"images": x.clone()}), model({"images": x}))
        assert not any(isinstance(m, SwitchableNorm) for m in static.modules())
        sizes.append(sum(p.numel() for p in static.backbone.parameters()))
    assert sizes == sorted(set(sizes))


def test_an_extracted_sub_model_is_independent():
    model = tiny_model().eval()
    x = images(2)
    static = extract_submodel(model, 0.5)
    before = static({"images": x.clone()})
    for p in model.parameters():
        p.data.zero_()
    assert torch.equal(static({"images": x.clone()}), before)
    with pytest.raises(InputError, match=r"must be one of \[0.25, 0.5, 0.75, 1.0\], found 0.6"):
        extract_submodel(model, 0.6)


def test_full_width_is_fastreids_baseline_bit_for_bit():
    model = tiny_model(config_file=R18)
    cfg = tiny_config(config_file=R18).clone()
    cfg.defrost()
    cfg.MODEL.META_ARCHITECTURE, cfg.MODEL.HEADS.NAME = "Baseline", "EmbeddingHead"
    cfg.MODEL.BACKBONE.NAME = "build_resnet_backbone"
    plain = build_model(cfg)
    own = {key: value for key, value in model.state_dict().items() if ".narrow." not in key}
    plain.load_state_dict(own, strict=True)
    x = images(3, 64, 32)
    model.eval(), plain.eval()
    assert torch.equal(model({"images": x}), plain({"images": x.clone()}))

    # and the other way: the plain model's checkpoint fits the switchable model
    other = tiny_model(config_file=R18)
    result = other.load_state_dict(plain.state_dict(), strict=False)
    assert result.missing_keys == result.unexpected_keys == []
    assert torch.equal(other.eval()({"images": x}), plain({"images": x.clone()}))


def test_a_batch_is_normalised_once_and_not_in_place():
    model = tiny_model().train()
    data = batch()
    original = data["images"].clone()
    seen = []
    model.backbone.conv1.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].clone()))
    model(data)
    assert torch.equal(data["images"], original)
    mean = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1) * 255
    std = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1) * 255
    assert len(seen) == 4
    for x in seen:
        torch.testing.assert_close(x, (original - mean) / std)


def test_training_returns_named_losses_of_every_width_without_fastreids_storage():
    model = tiny_model("MODEL.LOSSES.NAME", '("CompatibleLoss","TripletLoss","CircleLoss","Cosface")').train()
    losses = model(batch())
    kinds = ("loss_compat", "loss_triplet", "loss_circle", "loss_cosface")
    assert set(losses) == {f"{kind}_{w}" for kind in kinds for w in ("w025", "w050", "w075", "w100")}
    assert all(loss.dim() == 0 and torch.isfinite(loss) for loss in losses.values())


def test_pair_losses_are_fastreids_on_the_sub_models_features():
    from fastreid.modeling.losses import triplet_loss

    model = tiny_model("MODEL.LOSSES.NAME", '("CompatibleLoss","TripletLoss")', "MODEL.LOSSES.TRI.SCALE", 0.5).train()
    data = batch()
    x = model.preprocess_image(data)
    losses, diagnostics = model.submodel_losses(x, data["targets"], 1)
    with model.switch.use(1):
        outputs = model.heads(model.backbone(x), data["targets"])
    expected = 0.5 * triplet_loss(outputs["features"], data["targets"], 0.3, False, False)
    torch.testing.assert_close(losses["loss_triplet_w050"], expected)
    accuracy = (outputs["cls_outputs"].argmax(1) == data["targets"]).float().mean()
    assert diagnostics["cls_accuracy_w050"] == accuracy
    assert 0 < diagnostics["uncertainty_w050"] <= 1


def test_cross_entropy_has_no_uncertainty():
    model = tiny_model("MODEL.LOSSES.COMPAT.KIND", "ce").train()
    data = batch()
    losses, diagnostics = model.submodel_losses(model.preprocess_image(data), data["targets"], 0)
    assert list(losses) == ["loss_compat_w025"]
    assert list(diagnostics) == ["cls_accuracy_w025"]


def test_channels_last_is_a_matter_of_memory_only():
    data = images(4)
    plain = tiny_model().eval()
    model = tiny_model("MODEL.SWITCHABLE.CHANNELS_LAST", True).eval()
    model.load_state_dict(plain.state_dict())
    assert model.backbone.layer2[0].conv1.weight.is_contiguous(memory_format=torch.channels_last)
    for index, width in enumerate(model.switch.widths):
        with torch.no_grad(), model.switch.use(index), plain.switch.use(index):
            features, expected = model({"images": data}), plain({"images": data})
        torch.testing.assert_close(features, expected, rtol=1e-4, atol=1e-5)  # other kernels, other rounding
        with torch.no_grad():
            assert torch.equal(extract_submodel(model, width)({"images": data.clone()}), features)


@pytest.mark.parametrize("name", ["TripletLoss", "CircleLoss", "Cosface"])
def test_pair_losses_stay_out_of_autocast(name, monkeypatch):
    """A distance of 6 is off by up to 0.5 in bfloat16, with a margin of 0.3."""
    model = tiny_model("MODEL.LOSSES.NAME", f"('CompatibleLoss', '{name}')").train()
    key, kwargs_key, function = PAIR_LOSSES[name]
    seen = []
    own = (key, kwargs_key, lambda f, t, kwargs: seen.append(f) or function(f, t, kwargs))
    monkeypatch.setitem(PAIR_LOSSES, name, own)
    data = batch()
    with torch.autocast("cpu", torch.bfloat16):
        losses, _ = model.submodel_losses(model.preprocess_image(data), data["targets"], 3)
    kwargs = model.loss_kwargs[kwargs_key]
    assert torch.equal(seen[0], seen[0].bfloat16().float()), "the network computed in bfloat16"
    expected = function(seen[0].detach().double(), data["targets"], kwargs) * kwargs["scale"]
    torch.testing.assert_close(losses[f"{key}_w100"].double(), expected, rtol=1e-4, atol=1e-4)


def test_an_own_loss_cannot_take_the_place_of_another():
    for name in ("TripletLoss", "compat", "Circle", "own", "OWN"):
        loss = FunctionType((lambda outputs, targets, is_full: outputs["features"].sum()).__code__, {}, name)
        if name == "own":
            register_loss(loss)
            continue
        with pytest.raises(InputError, match=rf"^register_loss: .* not taken, .*, found {name}$"):
            register_loss(loss)
    del OWN_LOSSES["own"]
