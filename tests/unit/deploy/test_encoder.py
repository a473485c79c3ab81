"""One call for features, whatever holds the sub-model."""

import json
import shutil
import sys

import pytest
import torch
import torch.nn.functional as F

from builders import save_run
from switchablecompat.deploy.encoder import submodel_encoder
from switchablecompat.deploy.files.opening import open_encoder
from switchablecompat.errors import InputError
from switchablecompat.settings import check_comparable


def expected(case, width):
    with torch.no_grad(), case.model.switch.use(case.model.switch.index_of(width)):
        return F.normalize(case.model(case.images))


@pytest.mark.parametrize("kind", ["checkpoint", "onnx", "program"])
def test_folder_file_and_card_lead_to_the_same_encoder(kind, exported, tiny):
    folder, card = exported["tiny", 0.25, kind]
    images = tiny.images.clone()
    for path in (folder, folder / card.file, str(folder / "model.json")):
        encoder = open_encoder(path)
        assert encoder.card == card
        features = encoder(images)
        torch.testing.assert_close(features, expected(tiny, 0.25), rtol=0, atol=2e-6)
        assert features.dtype == torch.float32
    assert torch.equal(images, tiny.images)


@pytest.mark.parametrize("width", [0.25, 1.0])
def test_a_run_needs_no_export(width, exported, tiny):
    encoder = submodel_encoder(tiny.run, width)
    assert torch.equal(encoder(tiny.images), expected(tiny, width))
    assert tiny.run.network.switch.is_full
    ours = ("run", encoder.card.space)
    check_comparable(ours, ("camera", exported["tiny", 0.25, "onnx"][1].space))
    with pytest.raises(InputError, match="family: must be the same"):
        check_comparable(ours, ("another", exported["resnet", 0.5, "onnx"][1].space))
    with pytest.raises(InputError, match="must have a sub-model of width 0.5, found widths"):
        submodel_encoder(tiny.run, 0.5)


@pytest.mark.parametrize("kind", ["checkpoint", "onnx", "program"])
def test_a_file_without_its_card_still_knows_what_it_is(kind, exported, tmp_path):
    folder, card = exported["tiny", 0.25, kind]
    shutil.copytree(folder, tmp_path / "alone")
    (tmp_path / "alone" / "model.json").unlink()
    alone = open_encoder(tmp_path / "alone" / card.file).card
    assert (alone.family, alone.width, alone.dimension, alone.preprocessing) == (
        card.family, card.width, card.dimension, card.preprocessing,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("key", "value"),
    [("family", "sha256:0"), ("width", 1.0), ("kind", "program"), ("preprocessing", {"size": [32, 32]})],
)
def test_a_card_that_contradicts_its_file_is_refused(key, value, exported, tmp_path):
    folder, _ = exported["tiny", 0.25, "onnx"]
    shutil.copytree(folder, tmp_path / "mixed")
    content = json.loads((folder / "model.json").read_text())
    (tmp_path / "mixed" / "model.json").write_text(json.dumps({**content, key: value}))
    with pytest.raises(InputError, match=f"must be the card of model.onnx, whose {key} is"):
        open_encoder(tmp_path / "mixed")


def test_the_card_of_another_file_is_not_taken_for_this_ones(exported, tmp_path):
    shutil.copytree(exported["tiny", 0.25, "program"][0], tmp_path / "both")
    shutil.copy(exported["resnet", 0.5, "onnx"][0] / "model.onnx", tmp_path / "both")
    assert open_encoder(tmp_path / "both" / "model.onnx").card.width == 0.5
    assert open_encoder(tmp_path / "both").card.width == 0.25


@pytest.mark.parametrize("name", ["model.onnx", "model.pt2", "model.pth"])
def test_a_damaged_file_is_refused_by_name(name, tmp_path):
    (tmp_path / name).write_bytes(b"\x08\x01damaged")
    with pytest.raises(InputError, match=f"{name}: must be a whole"):
        open_encoder(tmp_path / name)


def test_what_is_no_export_is_refused(tmp_path):
    (tmp_path / "model.tflite").touch()
    with pytest.raises(InputError, match="must end in .onnx, .pt2, .pth"):
        open_encoder(tmp_path / "model.tflite")
    with pytest.raises(InputError, match="none.onnx: must be an existing exported model"):
        open_encoder(tmp_path / "none.onnx")
    with pytest.raises(InputError, match="model.json: must be a readable model card"):
        open_encoder(tmp_path)


def test_an_ordinary_checkpoint_is_no_export(tmp_path):
    save_run(tmp_path / "run")
    with pytest.raises(InputError, match="must be written by the command export, found no model card in it"):
        open_encoder(tmp_path / "run" / "model_final.pth")


def test_a_checkpoint_that_does_not_fit_its_config_is_refused(exported, tmp_path):
    """FastReID's own loader would go on with random weights."""
    shutil.copytree(exported["tiny", 0.25, "checkpoint"][0], tmp_path / "mixed")
    shutil.copy(exported["tiny", 1.0, "checkpoint"][0] / "config.yaml", tmp_path / "mixed")
    with pytest.raises(InputError, match="ARCHITECTURE 'build_submodel' there and 'Baseline' here"):
        open_encoder(tmp_path / "mixed")


@pytest.mark.parametrize(
    "images",
    [torch.zeros(1, 3, 32, 64), torch.zeros(3, 64, 32), torch.zeros(1, 3, 64, 32, dtype=torch.uint8)],
    ids=["size", "no batch", "bytes"],
)
def test_other_images_are_refused_with_what_was_found(images, exported):
    encoder = open_encoder(exported["tiny", 0.25, "onnx"][0])
    with pytest.raises(InputError, match=r"images: must be float32 \[N, 3, 64, 32\], found torch"):
        encoder(images)


def test_a_missing_package_says_what_to_install(exported, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(
        InputError, match=r"onnxruntime: is needed to run an ONNX file: pip install 'switchablecompat\[deploy\]'"
    ):
        open_encoder(exported["tiny", 0.25, "onnx"][0])
