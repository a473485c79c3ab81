"""What checkpoints give a model: files of other ages and makers, files that do not fit, hostile files."""

import logging
from pathlib import Path

import pytest
import torch
import torchvision
from fastreid.modeling.backbones import build_backbone
from fastreid.modeling.meta_arch import build_model

from builders import R18, images, randomise, tiny_config, tiny_model
from switchablecompat.engine import load_for_evaluation, read_checkpoint
from switchablecompat.errors import InputError
from switchablecompat.modeling.checkpoint import check_same, load_as_start, read_weights


def saved(model, path, **extra):
    torch.save({"model": model.state_dict(), **extra}, path)
    return str(path)


def test_loading_restores_the_features(tmp_path):
    model = tiny_model().eval()
    other = tiny_model("MODEL.HEADS.NUM_CLASSES", 3).eval()
    load_for_evaluation(other, saved(model, tmp_path / "m.pth", epoch=3))
    x = images()
    for index in range(4):
        with model.switch.use(index), other.switch.use(index):
            assert torch.equal(model({"images": x}), other({"images": x}))


def test_other_widths_depths_and_layers_are_refused_by_name(tmp_path):
    path = saved(tiny_model(), tmp_path / "m.pth")
    for other in (
        tiny_model("MODEL.SWITCHABLE.WIDTHS", "[0.5, 1.0]"),
        tiny_model("MODEL.HEADS.EMBEDDING_DIM", 64),
        tiny_model(config_file=R18),
    ):
        with pytest.raises(InputError, match=r"m.pth: must be a checkpoint of this config .* found .*(\.|weight)"):
            load_for_evaluation(other, path)


def test_bad_files_are_refused_in_one_line(tmp_path):
    whole = saved(tiny_model(), tmp_path / "m.pth")
    cut, text, other = tmp_path / "cut.pth", tmp_path / "text.pth", tmp_path / "other.pth"
    cut.write_bytes(Path(whole).read_bytes()[:2000])
    text.write_text("not a checkpoint")
    torch.save({"weights": 1}, other)
    for path in (cut, text, other, tmp_path / "none.pth", tmp_path):
        with pytest.raises(InputError, match=path.name) as error:
            read_checkpoint(str(path))
        assert "\n" not in str(error.value)


class Hostile:
    """Creates a file when it is unpickled by something that trusts it."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return open, (str(self.marker), "w")


def hostile_file(folder):
    """A whole checkpoint of the tiny model with a stowaway; and where that would leave its mark."""
    return saved(tiny_model(), folder / "hostile.pth", extra=Hostile(folder / "ran")), folder / "ran"


def test_the_hostile_file_is_one(tmp_path):
    path, marker = hostile_file(tmp_path)
    torch.load(path, weights_only=False)["extra"].close()
    assert marker.exists()


@pytest.mark.parametrize(
    "load", [load_for_evaluation, load_as_start, check_same, lambda model, path: read_checkpoint(path)]
)
def test_a_hostile_pickle_runs_nothing(tmp_path, load):
    path, marker = hostile_file(tmp_path)
    with pytest.raises(InputError, match="hostile.pth: must be a whole checkpoint of tensors") as error:
        load(tiny_model(), path)
    assert "\n" not in str(error.value)
    assert not marker.exists()


def test_a_hostile_file_of_pretrained_weights_runs_nothing(tmp_path):
    path, marker = hostile_file(tmp_path)
    with pytest.raises(InputError, match="hostile.pth"):
        build_backbone(pretrained(path))
    assert not marker.exists()


@pytest.fixture(scope="module")
def plain():
    """FastReID's own ResNet-18 Baseline of nine identities, nothing at its initial value."""
    torch.manual_seed(0)
    cfg = tiny_config("MODEL.HEADS.NUM_CLASSES", 9, config_file=R18).clone()
    cfg.defrost()
    cfg.MODEL.META_ARCHITECTURE, cfg.MODEL.HEADS.NAME = "Baseline", "EmbeddingHead"
    cfg.MODEL.BACKBONE.NAME = "build_resnet_backbone"
    model = build_model(cfg)
    randomise(model)
    return model.eval()


def old_world(model, **more):
    """As FastReID saved it in its day: NumPy arrays, a data-parallel wrapper's names, keys that nobody reads now."""
    weights = {f"module.{key}": value.numpy() for key, value in model.state_dict().items()}
    weights["module.heads.classifier.weight"] = weights.pop("module.heads.weight")
    weights["module.pixel_mean"] = model.pixel_mean.numpy()
    return {"model": weights, "epoch": 59, "metric": torch.tensor(0.9).numpy(), **more}


def test_an_old_fastreid_checkpoint_starts_a_switchable_model(plain, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr("switchablecompat.modeling.checkpoint.logger", logging.getLogger("loading"))
    caplog.set_level(logging.INFO)
    path = tmp_path / "old.pth"
    torch.save(old_world(plain), path)
    model = tiny_model(config_file=R18).eval()
    fresh = model.heads.weight.detach().clone()
    load_as_start(model, str(path))
    x = images(2, 64, 32)
    assert torch.equal(model({"images": x}), plain({"images": x}))
    assert torch.equal(model.heads.weight, fresh), "its own identities"
    norm, narrow = model.backbone.bn1, model.backbone.bn1.narrow["w050"]
    assert torch.equal(narrow.running_mean, norm.running_mean[: narrow.num_features])
    for left_out in ("heads.classifier.weight", "pixel_mean"):
        assert any(left_out in record.getMessage() for record in caplog.records)
    assert any(f"{len(plain.state_dict()) - 1} tensors loaded" in record.getMessage() for record in caplog.records)


ORDINARY = ("MODEL.BACKBONE.WITH_IBN", False, "MODEL.BACKBONE.WITH_SE", False)


def pretrained(path):
    options = ("MODEL.BACKBONE.PRETRAIN", True, "MODEL.BACKBONE.PRETRAIN_PATH", path)
    return tiny_config(*ORDINARY, *options, config_file=R18)


def test_torchvisions_resnet_starts_a_switchable_model_in_both_ways(tmp_path):
    network = torchvision.models.resnet18()
    randomise(network)
    path = str(tmp_path / "resnet18.pth")
    torch.save(network.state_dict(), path)
    start, built = tiny_model(*ORDINARY, config_file=R18), build_backbone(pretrained(path))
    load_as_start(start, path)
    weights = {key: value for key, value in network.state_dict().items() if not key.startswith("fc.")}
    for backbone in (start.backbone, built):
        own = backbone.state_dict()
        assert all(torch.equal(own[key], value) for key, value in weights.items())
        narrow = backbone.bn1.narrow["w050"]
        assert torch.equal(narrow.running_var, network.bn1.running_var[: narrow.num_features])


def test_ibn_from_weights_without_it_is_refused(tmp_path):
    torch.save(torchvision.models.resnet18().state_dict(), tmp_path / "r.pth")
    with pytest.raises(InputError, match=r"r.pth: must hold the whole backbone .*bn1"):
        load_as_start(tiny_model(config_file=R18), str(tmp_path / "r.pth"))


def test_nothing_may_be_missing_to_resume(tmp_path):
    path = saved(tiny_model("MODEL.HEADS.NUM_CLASSES", 3), tmp_path / "m.pth")
    check_same(tiny_model("MODEL.HEADS.NUM_CLASSES", 3), path)
    with pytest.raises(InputError, match=r"m.pth: must be a checkpoint of this config to be resumed; .* heads.weight"):
        check_same(tiny_model("MODEL.HEADS.NUM_CLASSES", 4), path)


@pytest.mark.parametrize(
    ("content", "found"),
    [([1], "found list"), ({"a": "text"}, "found a: str"), ({"model": {"x": 1}}, "found x: int")],
)
def test_what_is_no_state_dict_is_refused(tmp_path, content, found):
    torch.save(content, tmp_path / "m.pth")
    with pytest.raises(InputError, match=r"m.pth: must be a checkpoint or a state dict of tensors") as error:
        read_weights(str(tmp_path / "m.pth"))
    assert str(error.value).endswith(found)
