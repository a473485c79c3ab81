import pytest
import torch
import torch.nn.functional as F
from fastreid.layers import any_softmax, pooling

from builders import CLASSES, tiny_model
from switchablecompat.errors import InputError


def features(model, index):
    return torch.rand(4, model.backbone.out_layout.count(index), 3, 2)


@pytest.mark.parametrize("index", range(4))
def test_one_dimension_at_every_width(index):
    model = tiny_model()
    with model.switch.use(index):
        assert model.heads.eval()(features(model, index)).shape == (4, 128)
        outputs = model.heads.train()(features(model, index), torch.tensor([0, 1, 2, 3]))
    assert outputs["features"].shape == (4, 128)
    assert outputs["cls_outputs"].shape == (4, CLASSES)


def test_triplet_features_before_the_neck_have_the_width_of_the_backbone():
    model = tiny_model("MODEL.HEADS.NECK_FEAT", "before")
    x = features(model, 1)
    with model.switch.use(1):
        outputs = model.heads.train()(x, torch.tensor([0, 1, 2, 3]))
    torch.testing.assert_close(outputs["features"], x.mean(dim=(2, 3)))


@pytest.mark.parametrize(("mode", "trained"), [("all", [True] * 4), ("full", [False, False, False, True])])
def test_who_trains_the_shared_classifier(mode, trained):
    model = tiny_model("MODEL.SWITCHABLE.CLASSIFIER_GRAD", mode).train()
    for index in range(4):
        model.zero_grad()
        with model.switch.use(index):
            outputs = model.heads(features(model, index), torch.tensor([0, 1, 2, 3]))
        outputs["cls_outputs"].square().sum().backward()
        assert (model.heads.weight.grad is not None) is trained[index]
        assert model.heads.bottleneck[0].weight.grad.abs().sum() > 0


def test_all_sub_models_use_the_same_classifier():
    model = tiny_model().train()
    for index in range(4):
        with model.switch.use(index):
            outputs = model.heads(features(model, index), torch.tensor([0, 1, 2, 3]))
        torch.testing.assert_close(outputs["cls_outputs"], F.linear(outputs["features"], model.heads.weight))


def reference_logits(kind, cosine, targets, scale, margin):
    """The margin softmax losses by their papers, one element at a time."""
    out = torch.empty_like(cosine)
    for n, row in enumerate(cosine.tolist()):
        for k, c in enumerate(row):
            own = k == targets[n]
            c = torch.tensor(c, dtype=torch.float64)
            if kind == "CosSoftmax":
                value = c - margin * own
            elif kind == "ArcSoftmax":
                value = torch.cos(torch.arccos(c) + margin * own)
            else:  # Circle loss, equation 6
                value = (
                    (1 + margin - c).clamp_min(0) * (c - (1 - margin))
                    if own
                    else (c + margin).clamp_min(0) * (c - margin)
                )
            out[n, k] = scale * value
    return out


@pytest.mark.parametrize("kind", ["ArcSoftmax", "CosSoftmax", "CircleSoftmax"])
def test_margin_softmax_at_every_width(kind):
    margin = ("MODEL.HEADS.CLS_LAYER", kind, "MODEL.HEADS.SCALE", 16, "MODEL.HEADS.MARGIN", 0.3)
    model = tiny_model(*margin, "MODEL.LOSSES.COMPAT.KIND", "ce").train()
    targets = torch.tensor([0, 1, 2, 3])
    for index in range(4):
        with model.switch.use(index):
            outputs = model.heads(features(model, index), targets)
        cosine = F.normalize(outputs["features"]) @ F.normalize(model.heads.weight).T
        expected = reference_logits(kind, cosine.detach(), targets.tolist(), 16, 0.3)
        torch.testing.assert_close(outputs["cls_outputs"].detach(), expected, atol=2e-4, rtol=1e-4)  # 16 * float32 acos


def test_arc_softmax_survives_a_feature_on_its_class_vector():
    model = tiny_model(
        "MODEL.HEADS.CLS_LAYER", "ArcSoftmax", "MODEL.HEADS.SCALE", 16, "MODEL.HEADS.MARGIN", 0.3
    ).train()
    x = features(model, 3)
    with torch.no_grad():
        model.heads.weight[:4] = model.heads(x, torch.arange(4))["features"] * 3
    outputs = model.heads(x, torch.arange(4))["cls_outputs"]
    outputs.sum().backward()
    assert torch.isfinite(outputs).all()
    assert all(torch.isfinite(p.grad).all() for p in model.heads.parameters() if p.grad is not None)


@pytest.mark.parametrize("pool", [p for p in pooling.__all__ if p not in ("Identity", "Flatten")])
def test_pooling_types(pool):
    model = tiny_model("MODEL.HEADS.POOL_LAYER", pool).eval()
    for index in range(4):
        with model.switch.use(index):
            assert model.heads(features(model, index)).shape == (4, 128)


def test_every_classification_layer_of_fastreid_was_tested():
    assert set(any_softmax.__all__) == {"Linear", "ArcSoftmax", "CosSoftmax", "CircleSoftmax"}


def test_a_pooling_that_leaves_several_positions_is_refused():
    """The head would take the top left one of them as the feature."""
    model = tiny_model("MODEL.HEADS.POOL_LAYER", "Identity").eval()
    rule = r"^MODEL.HEADS.POOL_LAYER: must pool the backbone's 3x2 positions to one, found Identity$"
    with pytest.raises(InputError, match=rule):
        model.heads(features(model, 3))


@pytest.mark.parametrize("kind", ["ArcSoftmax", "CosSoftmax", "CircleSoftmax"])
def test_cosines_with_a_margin_stay_out_of_autocast(kind):
    model = tiny_model("MODEL.HEADS.CLS_LAYER", kind, "MODEL.HEADS.SCALE", 4, "MODEL.HEADS.MARGIN", 0.1).train()
    targets = torch.tensor([0, 1, 2, 3])
    with torch.autocast("cpu", torch.bfloat16):
        outputs = model.heads(features(model, 3), targets)
    neck, vectors = outputs["neck_features"].double(), model.heads.weight.double()
    cosines = (neck / neck.norm(dim=1, keepdim=True)) @ (vectors / vectors.norm(dim=1, keepdim=True)).T
    assert outputs["neck_features"].dtype == torch.bfloat16
    torch.testing.assert_close(outputs["logits"].double(), 4 * cosines, rtol=0, atol=1e-5)
