"""What the terms of BCT, Asymmetric and Asymmetric-S reach, and in which order sub-models are asked."""

import gc
import weakref

import pytest
import torch
import torch.nn.functional as F

from builders import CLASSES, batch, reference_files, tiny_model
from switchablecompat import extract_submodel
from switchablecompat.losses import asymmetric_loss

S = (
    "MODEL.LOSSES.NAME", "('CompatibleLoss', 'AsymmetricLoss')", "MODEL.LOSSES.ASYMMETRIC.TEACHER", "full",
    "MODEL.LOSSES.COMPAT.KIND", "ce", "MODEL.LOSSES.COMPAT.SUBMODELS", "full",
)  # fmt: skip
NAMES = ("w025", "w050", "w075", "w100")


def losses_of(model, data, indices=None):
    """Losses of these sub-models, asked for in the order of a step."""
    x = model.preprocess_image(data)
    found = {}
    for index in indices or model.switch.descending:
        found[model.switch.names[index]] = model.submodel_losses(x, data["targets"], index)[0]
    return found


def test_the_full_model_comes_first_in_every_method(monkeypatch):
    for opts in ((), S):
        model, order = tiny_model(*opts).train(), []
        original = model.submodel_losses
        monkeypatch.setattr(model, "submodel_losses", lambda *a, f=original, o=order: o.append(a[2]) or f(*a))
        model(batch())
        assert order == [3, 2, 1, 0]


def test_who_has_which_loss_in_asymmetric_s():
    model = tiny_model(*S).train()
    assert {key for losses in losses_of(model, batch()).values() for key in losses} == {
        "loss_compat_w100", "loss_asymmetric_w025", "loss_asymmetric_w050", "loss_asymmetric_w075",
    }  # fmt: skip
    with_id = tiny_model(*S[:-1], "all").train()
    assert {f"loss_compat_{name}" for name in NAMES} < set(with_id(batch()))


def test_asymmetric_s_is_the_loss_between_the_two_evaluated_features():
    model = tiny_model(*S, "MODEL.LOSSES.ASYMMETRIC.SCALE", 0.5, "MODEL.HEADS.NECK_FEAT", "before").train()
    data = batch()
    loss = losses_of(model, data)["w050"]["loss_asymmetric_w050"]
    x, features = model.preprocess_image(data), {}
    for index in (1, 3):
        with model.switch.use(index):
            features[index] = model.heads.bottleneck(model.heads.pool_layer(model.backbone(x)))[..., 0, 0]
    expected = 0.5 * asymmetric_loss(features[1], features[3], data["targets"], kind="contr_plus", margin=0.7)
    torch.testing.assert_close(loss, expected)


def test_the_teachers_side_of_asymmetric_s_gets_no_gradient():
    """The gradient of a smaller sub-model's loss is the one it has with the full features given as numbers."""
    model = tiny_model(*S).train()
    losses_of(model, batch())["w025"]["loss_asymmetric_w025"].backward()
    grads = {name: p.grad for name, p in model.named_parameters()}
    assert grads["heads.weight"] is None
    assert grads["backbone.bn1.weight"] is None  # private to the full model
    assert grads["backbone.bn1.narrow.w050.weight"] is None
    assert grads["backbone.bn1.narrow.w025.weight"].abs().sum() > 0
    kept = model.backbone.layer4[0].conv1.out_layout.count(0)
    weight = grads["backbone.layer4.0.conv1.weight"]
    assert weight[:kept].abs().sum() > 0
    assert weight[kept:].abs().sum() == 0


def test_every_parameter_is_trained_by_asymmetric_s():
    model = tiny_model(*S).train()
    sum(model(batch()).values()).backward()
    idle = {name for name, p in model.named_parameters() if p.requires_grad and not p.grad.abs().sum() > 0}
    assert idle == set()


def test_smaller_sub_models_cannot_learn_from_another_batch():
    model = tiny_model(*S).train()
    with pytest.raises(RuntimeError, match="full model comes first"):
        losses_of(model, batch(), indices=[1])
    losses_of(model, batch(), indices=[3])
    with pytest.raises(RuntimeError, match="full model comes first"):
        losses_of(model, batch(), indices=[1])


def test_no_graph_is_kept_alive_and_the_batch_is_forgotten():
    model, data = tiny_model(*S).train(), batch()
    x = model.preprocess_image(data)
    losses, _ = model.submodel_losses(x, data["targets"], 3)
    loss = weakref.ref(losses["loss_compat_w100"])
    kept = weakref.ref(model.teachers.full(x, "neck_features"))
    assert kept().grad_fn is None, "no graph hangs on what is kept"
    del losses
    gc.collect()
    assert loss() is None
    model.end_step()
    gc.collect()
    assert kept() is None


def test_bct_is_its_own_loss_and_the_old_classifiers(tmp_path):
    trained, files = reference_files(tmp_path, "MODEL.SWITCHABLE.ONLY_WIDTH", 1.0)
    opts = ("MODEL.SWITCHABLE.ONLY_WIDTH", 0.25, "MODEL.LOSSES.NAME", "('CompatibleLoss', 'InfluenceLoss')", *files)
    opts = (*opts, "MODEL.LOSSES.INFLUENCE.SCALE", 0.5, "MODEL.LOSSES.CE.EPSILON", 0.1)
    model, data = tiny_model(*opts).train(), batch()
    losses = losses_of(model, data)["w025"]
    features = model.heads(model.backbone(model.preprocess_image(data)), data["targets"])["neck_features"]
    log_p = F.log_softmax(features @ trained.heads.weight.T, dim=1)
    targets = torch.full_like(log_p, 0.1 / (CLASSES - 1))  # FastReID's label smoothing
    targets[torch.arange(8), data["targets"]] = 0.9
    torch.testing.assert_close(losses["loss_influence_w025"], -0.5 * (targets * log_p).sum(dim=1).mean())
    assert "loss_compat_w025" in losses

    losses["loss_influence_w025"].backward()
    assert model.heads.weight.grad is None, "its own classifier is not in this term"
    assert model.backbone.conv1.weight.grad.abs().sum() > 0


def test_a_margin_softmax_reference_is_read_as_scaled_cosines(tmp_path):
    margin = ("MODEL.HEADS.CLS_LAYER", "ArcSoftmax", "MODEL.HEADS.SCALE", 16, "MODEL.HEADS.MARGIN", 0.3)
    trained, files = reference_files(tmp_path, "MODEL.SWITCHABLE.ONLY_WIDTH", 1.0, *margin)
    opts = ("MODEL.SWITCHABLE.ONLY_WIDTH", 0.5, "MODEL.LOSSES.NAME", "('CompatibleLoss', 'InfluenceLoss')", *files)
    model, data = tiny_model(*opts, *margin).train(), batch()
    loss = losses_of(model, data)["w050"]["loss_influence_w050"]
    features = model.heads(model.backbone(model.preprocess_image(data)), data["targets"])["neck_features"]
    cosines = torch.stack([F.cosine_similarity(features, w.expand_as(features)) for w in trained.heads.weight], dim=1)
    assert cosines.shape == (8, CLASSES)
    torch.testing.assert_close(loss, F.cross_entropy(16 * cosines, data["targets"]), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["logits", "features"])
def test_in_place_distillation_is_the_loss_against_the_full_models_detached_output(kind):
    options = ("MODEL.LOSSES.DISTILL.KIND", kind, "MODEL.LOSSES.DISTILL.SCALE", 0.3, "MODEL.LOSSES.COMPAT.KIND", "ce")
    model, data = tiny_model("MODEL.LOSSES.NAME", "('CompatibleLoss', 'DistillationLoss')", *options).train(), batch()
    losses = losses_of(model, data)
    assert {key for found in losses.values() for key in found if "distill" in key} == {
        "loss_distill_w025", "loss_distill_w050", "loss_distill_w075",
    }  # fmt: skip
    x, found = model.preprocess_image(data), {}
    for index in (0, 3):
        with model.switch.use(index):
            found[index] = model.heads.bottleneck(model.heads.pool_layer(model.backbone(x)))[..., 0, 0]
    if kind == "logits":
        z, full = (found[i] @ model.heads.weight.T for i in (0, 3))
        expected = (full.softmax(1) * (full.log_softmax(1) - z.log_softmax(1))).sum(1).mean()
    else:
        expected = 1 - F.cosine_similarity(found[0], found[3]).mean()
    torch.testing.assert_close(losses["w025"]["loss_distill_w025"], 0.3 * expected, rtol=1e-5, atol=1e-6)
    losses["w025"]["loss_distill_w025"].backward()
    assert model.heads.weight.grad is None, "the full model trains the classifier"
    assert model.backbone.bn1.weight.grad is None, "private to the full model"
    assert model.backbone.bn1.narrow["w025"].weight.grad.abs().sum() > 0


def test_a_sub_model_on_its_own_has_no_teachers():
    model = tiny_model(*S).eval()
    assert "teachers" not in extract_submodel(model, 0.5).__dict__
