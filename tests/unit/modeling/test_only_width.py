"""ONLY_WIDTH: the architecture of one sub-model, as an independent network."""

import pytest
import torch

from builders import R18, batch, images, tiny_config, tiny_model
from switchablecompat import extract_submodel
from switchablecompat.errors import InputError
from switchablecompat.layers import WidthSwitch, shared_parameters

TINY = "configs/quick/sfsc_tiny.yml"


@pytest.mark.parametrize(
    ("config_file", "width"), [(TINY, 0.25), (TINY, 0.5), (TINY, 0.75), (TINY, 1.0), (R18, 0.5), (R18, 1.0)]
)
def test_it_is_the_extracted_sub_model_of_the_switchable_network(config_file, width):
    """R18 has IBN and SE. Same shapes, so same number of parameters; and with its weights, the same features."""
    switchable = tiny_model(config_file=config_file).eval()
    static = extract_submodel(switchable, width)
    single = tiny_model("MODEL.SWITCHABLE.ONLY_WIDTH", width, config_file=config_file).eval()
    assert {k: v.shape for k, v in single.state_dict().items()} == {k: v.shape for k, v in static.state_dict().items()}
    assert sum(p.numel() for p in single.parameters()) == sum(p.numel() for p in static.parameters())
    single.load_state_dict(static.state_dict(), strict=True)
    x = images(3, 64, 32)
    with torch.no_grad():
        assert torch.equal(single({"images": x}), static({"images": x.clone()}))


def test_it_starts_with_the_weights_it_has_in_the_switchable_network():
    from fastreid.modeling.meta_arch import build_model

    torch.manual_seed(3)
    switchable = build_model(tiny_config())
    torch.manual_seed(3)
    single = build_model(tiny_config("MODEL.SWITCHABLE.ONLY_WIDTH", 0.5))
    own, expected = single.backbone.state_dict(), extract_submodel(switchable, 0.5).backbone.state_dict()
    assert all(torch.equal(own[key], value) for key, value in expected.items())


def test_its_switch_has_one_sub_model_with_its_own_name():
    model = tiny_model("MODEL.SWITCHABLE.ONLY_WIDTH", 0.25).train()
    assert (model.switch.widths, model.switch.names, len(model.switch)) == ((0.25,), ("w025",), 1)
    assert model.switch.is_full
    assert list(model(batch())) == ["loss_compat_w025"]
    assert all(p.shells is None for p in shared_parameters(model))
    torch.testing.assert_close(extract_submodel(model.eval(), 0.25)(images(2)).shape, torch.Size([2, 128]))


def test_its_own_classifier_is_trained_and_every_parameter_gets_a_gradient():
    model = tiny_model("MODEL.SWITCHABLE.ONLY_WIDTH", 0.5, "MODEL.SWITCHABLE.CLASSIFIER_GRAD", "full").train()
    sum(model(batch()).values()).backward()
    idle = {name for name, p in model.named_parameters() if p.requires_grad and not p.grad.abs().sum() > 0}
    assert idle == set()


def test_without_an_embedding_the_feature_has_the_width_of_the_backbone():
    model = tiny_model("MODEL.SWITCHABLE.ONLY_WIDTH", 0.5, "MODEL.HEADS.EMBEDDING_DIM", 0).eval()
    assert model(images(2)).shape == (2, 64)


def test_a_single_switch_is_made_on_purpose_only():
    switch = WidthSwitch.single(0.25)
    assert (switch.shares, switch.index, switch.full_index, list(switch.descending)) == ((1.0,), 0, 0, [0])
    assert WidthSwitch.single(1.0).names == ("w100",)
    assert WidthSwitch([0.5, 1.0]).shares == (0.5, 1.0)
    with pytest.raises(InputError, match=r"width: every width must be in \(0, 1\]"):
        WidthSwitch.single(1.5)
    with pytest.raises(InputError, match="must end in 1.0"):
        WidthSwitch([0.25])
