"""Exported files: the switchable network's features, no switch code, no more than the width's parameters."""

import json
import subprocess
import sys
import zipfile

import onnx
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from fastreid.config import get_cfg
from fastreid.engine import DefaultPredictor
from fastreid.modeling.backbones import BACKBONE_REGISTRY

from builders import images
from switchablecompat import add_switchablecompat_config, extract_submodel
from switchablecompat.deploy.card import ModelCard
from switchablecompat.deploy.files import export
from switchablecompat.deploy.files.export import export_submodel
from switchablecompat.errors import InputError
from switchablecompat.provenance import family_digest
from switchablecompat.settings import feature_settings

from .conftest import trained_run

# float32 features of length one; onnxruntime folds batch norms and sums in another order: 2e-7 was measured
CLOSE = {"rtol": 0, "atol": 2e-6}


def switchable_features(case, width, batch):
    """What the switchable network itself says, without anything of ``deploy``."""
    with torch.no_grad(), case.model.switch.use(case.model.switch.index_of(width)):
        return case.model(batch)


def switch_code(model):
    """Modules of this package's layers in a network, and switches that anything in it holds."""
    found = [type(m).__name__ for m in model.modules() if type(m).__module__.startswith("switchablecompat.layers")]
    return found + [name for name, m in model.named_modules() if hasattr(m, "switch")]


@pytest.fixture
def case(request, name):
    return request.getfixturevalue(name)


@pytest.mark.parametrize(("name", "width"), [("tiny", 0.25), ("tiny", 1.0), ("resnet", 0.5)])
def test_default_predictor_gives_the_same_bits(name, width, case, exported):
    folder, _ = exported[name, width, "checkpoint"]
    cfg = add_switchablecompat_config(get_cfg())
    cfg.merge_from_file(str(folder / "config.yaml"))
    predictor = DefaultPredictor(cfg)
    assert switch_code(case.model)
    assert switch_code(predictor.model) == []
    batch = images(3, *cfg.INPUT.SIZE_TEST)
    assert torch.equal(predictor(batch.clone()), switchable_features(case, width, batch))


def test_full_width_of_a_stock_backbone_is_fastreids_alone(tmp_path, resnet):
    folder, _ = export_submodel(resnet.run, 1.0, "checkpoint", tmp_path, resnet.images, "pictures")
    cfg = get_cfg()  # which refuses keys that are not FastReID's
    cfg.merge_from_file(str(folder / "config.yaml"))
    builder = BACKBONE_REGISTRY.get(cfg.MODEL.BACKBONE.NAME)
    predictor = DefaultPredictor(cfg)
    owners = {type(module).__module__.split(".")[0] for module in predictor.model.modules()}
    assert (builder.__module__.split(".")[0], owners) == ("fastreid", {"fastreid", "torch"})
    batch = images(2, 32, 32)
    assert torch.equal(predictor(batch.clone()), switchable_features(resnet, 1.0, batch))


@pytest.mark.parametrize("opts", [("MODEL.SWITCHABLE.ONLY_WIDTH", 0.5), ("MODEL.SWITCHABLE.CHANNELS_LAST", True)])
def test_single_width_and_channels_last_runs(opts, tmp_path, pictures):
    case = trained_run(tmp_path / "run", pictures, *opts)
    folder, card = export_submodel(case.run, 0.5, "checkpoint", tmp_path, case.images, "pictures")
    assert card.widths == ((0.5,) if "ONLY_WIDTH" in opts[0] else (0.25, 0.5, 0.75, 1.0))
    assert card.extra["parity"]["largest_difference"] == {"batch_1": 0.0, "batch_8": 0.0}
    assert (folder / "model.pth").stat().st_size == card.file_bytes


@pytest.mark.parametrize(("name", "width"), [("tiny", 0.25), ("resnet", 0.5)])
@pytest.mark.parametrize("size", [1, 3, 8])
def test_onnx_at_any_batch_size(name, width, size, case, exported):
    folder, _ = exported[name, width, "onnx"]
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"))
    height, wide = case.images.shape[2:]
    assert [(i.name, i.type, i.shape) for i in session.get_inputs()] == [
        ("images", "tensor(float)", ["batch", 3, height, wide])
    ]
    assert [(o.name, o.shape) for o in session.get_outputs()] == [("features", ["batch", 128])]
    batch = case.images[:size]
    (features,) = session.run(["features"], {"images": batch.numpy()})
    torch.testing.assert_close(
        torch.from_numpy(features), F.normalize(switchable_features(case, width, batch)), **CLOSE
    )


def test_program_needs_pytorch_alone(exported, tmp_path, tiny):
    """In a process that has neither FastReID nor this package."""
    script = """
import sys, torch
program = torch.export.load(sys.argv[1]).module()
images = torch.load("images.pt")
torch.save([program(images[:size]) for size in (1, 3, 8)], "features.pt")
assert not {"fastreid", "switchablecompat"} & {name.split(".")[0] for name in sys.modules}
"""
    torch.save(tiny.images, tmp_path / "images.pt")
    path = exported["tiny", 0.25, "program"][0] / "model.pt2"
    subprocess.run([sys.executable, "-c", script, path], cwd=tmp_path, check=True, timeout=300)
    for features in torch.load(tmp_path / "features.pt"):
        expected = F.normalize(switchable_features(tiny, 0.25, tiny.images[: len(features)]))
        torch.testing.assert_close(features, expected, **CLOSE)


@pytest.mark.parametrize(
    ("name", "width", "kind"),
    [("tiny", 0.25, "checkpoint"), ("tiny", 1.0, "checkpoint"), ("tiny", 0.25, "onnx"), ("resnet", 0.5, "onnx")],
)
def test_size_is_that_of_the_widths_parameters(name, width, kind, case, exported):
    folder, card = exported[name, width, kind]
    plain = extract_submodel(case.model, width)
    # the classifier stays at home
    counted = sum(p.numel() for key, p in plain.named_parameters() if key != "heads.weight")
    assert card.parameters == counted
    assert card.file_bytes == (folder / card.file).stat().st_size
    assert 4 * counted < card.file_bytes < 4 * counted + 60_000  # names, graph, statistics


def test_the_onnx_file_says_what_it_is_and_is_one_file(exported, tiny):
    folder, card = exported["tiny", 0.25, "onnx"]
    assert {path.name for path in folder.iterdir()} == {"model.onnx", "model.json"}
    content = onnx.load(folder / "model.onnx", load_external_data=False)
    onnx.checker.check_model(content, full_check=True)
    metadata = {entry.key: entry.value for entry in content.metadata_props}
    family = family_digest(tiny.model.state_dict(), feature_settings(tiny.run.cfg))
    assert (metadata["family"], metadata["width"]) == (family, "0.25")
    inside = ModelCard.from_dict(json.loads(metadata["model_card"]))
    assert (inside.preprocessing, inside.widths, inside.file) == (card.preprocessing, (0.25, 1.0), "model.onnx")


@pytest.mark.parametrize("kind", ["onnx", "program"])
def test_files_tell_nothing_of_the_machine_that_made_them(kind, exported):
    folder, card = exported["tiny", 0.25, kind]
    path = folder / card.file
    parts = [path.read_bytes()]
    if kind == "program":
        with zipfile.ZipFile(path) as archive:
            assert not any(
                name.endswith(".pt") and archive.getinfo(name).file_size > 1000 for name in archive.namelist()
            )
            parts = [archive.read(name) for name in archive.namelist()]
    for needle in (export.__file__.rsplit("/switchablecompat/", 1)[0], sys.prefix, "site-packages"):
        assert not any(needle.encode() in part for part in parts), needle


def test_the_card_beside_the_file(exported, tiny):
    folder, card = exported["tiny", 0.25, "onnx"]
    content = json.loads((folder / "model.json").read_text())
    assert ModelCard.read(folder / "model.json") == card
    assert content["file_bytes"] == (folder / "model.onnx").stat().st_size
    assert content["l2_normalised"] is True
    assert content["macs"] == 894_976  # see test_macs_of_the_thin_resnet_by_hand
    assert (content["method"], content["seed"]) == ("sfsc", 0)
    assert content["versions"]["onnxruntime"] == onnxruntime.__version__
    parity = content["parity"]
    assert (parity["images"], parity["tolerance"], parity["source"]) == (8, 1e-4, "pictures")
    assert all(0 <= parity["largest_difference"][key] < 2e-6 for key in ("batch_1", "batch_8"))
    assert exported["tiny", 0.25, "checkpoint"][1].extra["parity"]["tolerance"] == 0


def test_macs_of_the_thin_resnet_by_hand():
    """Width 0.25 of the 128-channel thin ResNet on 64x32: 4, 4, 8, 16 and 32 channels, last stride 1."""
    at = {2: 32 * 16, 4: 16 * 8, 8: 8 * 4}  # positions after strides of 2, 4 and 8
    stem = 3 * 4 * 9 * at[2]
    first = 2 * 4 * 4 * 9 * at[2]
    second = (4 * 8 * 9 + 8 * 8 * 9 + 4 * 8) * at[4]
    third = (8 * 16 * 9 + 16 * 16 * 9 + 8 * 16) * at[8]
    fourth = (16 * 32 * 9 + 32 * 32 * 9 + 16 * 32) * at[8]
    assert stem + first + second + third + fourth + 32 * 128 == 894_976


@pytest.mark.parametrize("kind", ["checkpoint", "program"])
def test_a_file_that_says_something_else_gets_no_name(kind, tiny, tmp_path, monkeypatch):
    """A planted error: one weight of the network changes on its way into the file."""
    write = getattr(export, f"write_{kind}")

    def write_another(model, *rest):
        with torch.no_grad():
            model.backbone.layer1[0].conv1.weight[0, 0, 1, 1] += 0.01
        write(model, *rest)

    monkeypatch.setattr(export, f"write_{kind}", write_another)
    folder = tmp_path / f"w025-{kind}"
    folder.mkdir()
    (folder / "model.json").write_text("of an earlier export")
    with pytest.raises(
        InputError, match=f"w025-{kind}: features must differ .* by at most .*; nothing is written, found"
    ):
        export_submodel(tiny.run, 0.25, kind, tmp_path, tiny.images, "pictures")
    assert [path.name for path in tmp_path.rglob("*")] == [f"w025-{kind}", "model.json"]
    assert (folder / "model.json").read_text() == "of an earlier export"


def test_undefined_features_are_refused(tiny, tmp_path, monkeypatch):
    def write_nan(model, *rest, write=export.write_checkpoint):
        torch.nn.init.constant_(model.backbone.conv1.weight, float("nan"))
        write(model, *rest)

    monkeypatch.setattr(export, "write_checkpoint", write_nan)
    with pytest.raises(InputError, match="nan"):
        export_submodel(tiny.run, 0.25, "checkpoint", tmp_path, tiny.images, "pictures")
    assert not list(tmp_path.iterdir())


def test_an_unknown_width_is_refused(tiny, tmp_path):
    with pytest.raises(InputError, match=r"must have a sub-model of width 0.3, found widths \[0.25, 1.0\]"):
        export_submodel(tiny.run, 0.3, "onnx", tmp_path, tiny.images, "pictures")
