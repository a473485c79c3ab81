"""tools/export_submodel.py --precision, --dynamic-size and --openvino: int8 and float16 files and what they cost."""

import functools
import json
import re
from pathlib import Path

import numpy as np
import onnx
import onnxruntime.quantization  # finds its parts by sys.path, which each test restores
import pytest
import torch
import torch.nn.functional as F

from switchablecompat.choices import REDUCED
from switchablecompat.data.opening import open_dataset
from switchablecompat.deploy.card import ModelCard
from switchablecompat.deploy.encoder import raw_features, submodel_encoder
from switchablecompat.deploy.files import low_precision
from switchablecompat.deploy.files.graph import standalone
from switchablecompat.deploy.files.held_out import HeldOut
from switchablecompat.deploy.files.int8 import Quantiser
from switchablecompat.deploy.files.opening import open_encoder
from switchablecompat.deploy.files.writers import write_onnx
from switchablecompat.deploy.images import read_images
from switchablecompat.evaluation.ranking import rank_queries
from switchablecompat.modeling.opened import open_model

PREPROCESSING = {"size": [64, 32]}
RUN = ("--config-file", "run/config.yaml", "--weights", "run/model_final.pth")
ANY = ("--max-map-drop", "100")
ARGUMENT = "command line: argument"


@pytest.fixture(scope="module")
def work(deployable):
    """A folder with a run, and a second one whose features are the same while one activation has a huge channel."""
    folder, model = deployable
    content = torch.load(folder / "run" / "model_final.pth", weights_only=False)
    (folder / "uneven").mkdir()
    (folder / "uneven" / "config.yaml").write_text((folder / "run" / "config.yaml").read_text())
    block = model.backbone.layer2[0]  # a ReLU is between these two, which keeps positive factors
    state = content["model"]
    for name, value in block.bn1.state_dict().items():
        if name.endswith(("weight", "bias")):
            key = f"backbone.layer2.0.bn1.{name}"
            value = value.clone()
            value[0] *= 2000
            state[key] = value
    state["backbone.layer2.0.conv2.weight"] = state["backbone.layer2.0.conv2.weight"].clone()
    state["backbone.layer2.0.conv2.weight"][:, 0] /= 2000
    torch.save(content, folder / "uneven" / "model_final.pth")
    return folder


@pytest.fixture
def tool(work, run_tool, monkeypatch):
    """Run the script in this process, in the user's folder; returns exit code, output and errors."""
    monkeypatch.chdir(work)
    monkeypatch.setenv("FASTREID_DATASETS", str(work / "datasets"))
    return functools.partial(run_tool, "export_submodel.py")


def card_of(folder):
    return json.loads((Path(folder) / "model.json").read_text())


def labelled(split):
    _, splits = open_dataset("SyntheticReIDTiny", "datasets", "")
    items = splits[split]
    return [item[0] for item in items], *(np.array([item[column] for item in items]) for column in (1, 2))


def test_int8_says_what_searches_by_it_lose(tool):
    code, out, err = tool(*RUN, "--width", 0.25, "--precision", "int8", *ANY, "--output", "out")
    assert code == 0, err
    card = card_of("out/w025-onnx-int8")
    assert (card["kind"], card["precision"], card["width"]) == ("onnx", "int8", 0.25)
    assert card["calibration"] == {"images": 96, "source": "SyntheticReIDTiny"}
    (query, *query_labels), (gallery, *gallery_labels) = labelled("query"), labelled("gallery")
    session = onnxruntime.InferenceSession("out/w025-onnx-int8/model.onnx")

    def ours(paths):
        return torch.from_numpy(session.run(None, {"images": read_images(paths, PREPROCESSING).numpy()})[0])

    run = open_model("run/model_final.pth", "run/config.yaml")
    theirs = {w: submodel_encoder(run, w)(read_images(gallery, PREPROCESSING)) for w in (0.25, 1.0)}
    float_queries = submodel_encoder(run, 0.25)(read_images(query, PREPROCESSING))
    cells = {cell["gallery"]: cell for cell in card["proof"]["mAP"]}
    assert list(cells) == ["w025", "w100", "w025 int8"]
    galleries = {"w025": theirs[0.25], "w100": theirs[1.0], "w025 int8": ours(gallery)}
    for name, features in galleries.items():
        arguments = (query_labels[0], gallery_labels[0], query_labels[1], gallery_labels[1])
        expected = rank_queries(ours(query), features, *arguments).mAP
        former = rank_queries(float_queries, theirs[0.25] if name == "w025 int8" else features, *arguments).mAP
        assert cells[name]["mAP"] == pytest.approx(expected, abs=0.05)  # batches of another size round otherwise
        assert cells[name]["drop"] == pytest.approx(former - expected, abs=0.1)
    assert f"{cells['w100']['mAP']:.2f} on w100" in out
    cosine = torch.cat([(ours(query) * float_queries).sum(1), (ours(gallery) * theirs[0.25]).sum(1)])
    assert card["proof"]["cosine"]["lowest"] == pytest.approx(cosine.min().item(), abs=1e-3)
    assert 0.5 < cosine.min() < 0.9999


@pytest.fixture
def in_bfloat16(work):
    """Arguments of the run with a config, as a recipe on a GPU has it, that evaluates in bfloat16."""
    config = (work / "run" / "config.yaml").read_text()
    assert "PRECISION: float32" in config
    (work / "bfloat16.yaml").write_text(config.replace("PRECISION: float32", "PRECISION: bfloat16"))
    return "--config-file", "bfloat16.yaml", "--weights", "run/model_final.pth"


def test_a_run_that_evaluates_in_bfloat16_is_compared_with_float32(tool, in_bfloat16, work, deployable):
    both = ("--precision", "float32", "--precision", "float16", *ANY)
    code, _, err = tool(*in_bfloat16, "--width", 1.0, *both, "--images", "my_images", "--output", "compared")
    assert code == 0, err
    (query, *query_labels), (gallery, *gallery_labels) = labelled("query"), labelled("gallery")
    model = deployable[1]
    with torch.no_grad(), model.switch.use(1):
        query, gallery = (F.normalize(model(read_images(paths, PREPROCESSING))) for paths in (query, gallery))
    labels = (query_labels[0], gallery_labels[0], query_labels[1], gallery_labels[1])
    proof = card_of("compared/w100-onnx-float16")["proof"]
    assert proof["mAP"][-1]["float32"] == pytest.approx(rank_queries(query, gallery, *labels).mAP, abs=1e-3)
    assert proof["cosine"]["lowest"] > 1 - 1e-5  # float16 is computed in float32 here; bfloat16 is 1e-4 away


def test_other_tools_compare_such_a_run_with_float32_too(run_tool, in_bfloat16, work, monkeypatch):
    monkeypatch.chdir(work)
    monkeypatch.setenv("FASTREID_DATASETS", str(work / "datasets"))
    profile = (*in_bfloat16, "--repeats", 1, "--calibration-images", 16, *ANY, "--output", "profiled")
    code, _, err = run_tool("profile_precisions.py", *profile)
    assert code == 0, err
    entries = json.loads(Path("profiled/precisions.json").read_text())["entries"]
    lowest = [entry["cosine"]["lowest"] for entry in entries if entry["precision"] == "float32"]
    assert min(lowest) > 1 - 1e-5
    ends = ("--camera", 0.25, "--old", 0.25, "--new", 1.0, "--precision", "float32", "--far", 0.1)
    code, _, err = run_tool("rehearse.py", *in_bfloat16, *ends, "--output", "rehearsed")
    assert code == 0, err[-2000:]


def test_int8_weights_are_per_channel_and_the_head_stays(tool):
    code, _, err = tool(*RUN, "--width", 1.0, "--precision", "int8", *ANY, "--output", "out")
    assert code == 0, err
    graph = onnx.load("out/w100-onnx-int8/model.onnx").graph
    tensors = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    made_by = {output: node for node in graph.node for output in node.output}
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    quantised = [node for node in convolutions if node.input[1] in made_by]
    assert [node.input[1] for node in convolutions if node not in quantised] == ["heads.bottleneck.0.weight"]
    for node in quantised:
        weight, scale = (tensors[name] for name in made_by[node.input[1]].input[:2])
        assert weight.dtype == np.int8
        assert scale.shape == weight.shape[:1]
        assert np.abs(weight.astype(int)).max() <= 64  # 7 bits
    assert len(quantised) == card_of("out/w100-onnx-int8")["int8_layers"]


def test_a_layer_that_int8_cannot_hold_stays_in_float32_by_itself(tool, monkeypatch):
    compare = HeldOut.compare

    def by_cosine(self, encoder):  # searches in so small a set improve by chance
        proof = compare(self, encoder)
        return {**proof, "mAP": [{**cell, "drop": 100 * (1 - proof["cosine"]["mean"])} for cell in proof["mAP"]]}

    monkeypatch.setattr(HeldOut, "compare", by_cosine)
    uneven = ("--config-file", "uneven/config.yaml", "--weights", "uneven/model_final.pth", "--width", 1.0)
    int8 = (*uneven, "--precision", "int8", "--calibration-images", 16)
    planted = {"backbone.layer2.0.conv1", "backbone.layer2.0.conv2"}

    def exported(name, *arguments):
        code, _, err = tool(*int8, *arguments, "--output", name)
        assert code == 0, err[-2000:]
        card = card_of(f"{name}/w100-onnx-int8")
        return {*card["float32_layers"]}, card["proof"]["mAP"][0]["drop"]

    none, bad = exported("bad", *ANY)
    named, good = exported("named", *ANY, "--exclude", *planted)
    assert (none, named) == (set(), planted)
    assert good < bad / 3
    kept, reached = exported("good", "--max-map-drop", (good + bad) / 2)
    assert kept & planted
    assert len(kept) <= 2
    assert reached < (good + bad) / 2


@pytest.mark.parametrize("precision", REDUCED)
def test_more_loss_than_the_limit_leaves_no_file(tool, monkeypatch, precision):
    monkeypatch.setattr(low_precision, "largest_drop", lambda _: 3.0)
    code, _, err = tool(*RUN, "--width", 0.25, "--precision", precision, "--max-map-drop", 2.5, "--output", "none")
    assert code == 2
    line = next(line for line in err.splitlines() if "error: " in line)
    assert f"w025-onnx-{precision}: must lose at most 2.5 points of mAP in every cell" in line
    layers = r", with \d of \d+ layers in float32" if precision == "int8" else ""
    found = re.search(f"found 3.00{layers}$", line)
    assert found, line
    if layers:  # 1, 2, 4... are tried, and at most half of all
        kept, every = map(int, re.findall(r"\d+", found.group()[10:])[:2])
        assert kept == 2 ** int(np.log2(every / 2))
    assert not list(Path("none").iterdir())


def test_float16_is_half_as_large_and_keeps_its_contract(tool):
    both = ("--precision", "float32", "--precision", "float16")
    code, out, err = tool(*RUN, "--width", 1.0, *both, "--output", "out", "--images", "my_images")
    assert code == 0, err
    assert len(out.splitlines()) == 2
    assert card_of("out/w100-onnx")["precision"] == "float32"
    sizes = [card_of(f"out/w100-onnx{suffix}")["file_bytes"] for suffix in ("-float16", "")]
    assert 0.5 < sizes[0] / sizes[1] < 0.6
    images = read_images(sorted(Path("my_images").iterdir()), PREPROCESSING)
    half, full = (open_encoder(f"out/w100-onnx{suffix}")(images) for suffix in ("-float16", ""))
    torch.testing.assert_close(half.norm(dim=1), torch.ones(len(images)), rtol=0, atol=1e-6)  # the end is float32
    assert 1e-6 < (half - full).abs().max() < 5e-3


def test_any_size_is_compared_at_three(tool, work):
    code, _, err = tool(
        *RUN, "--width", 0.25, "--dynamic-size", "--openvino", "--images", "my_images", "--output", "any"
    )
    assert code == 0, err
    card = card_of("any/w025-onnx")
    keys = {"batch_1", "batch_8", "size_48x32", "size_96x48", "openvino_batch_1", "openvino_batch_8"}
    assert {*card["parity"]["largest_difference"]} == keys
    encoder = open_encoder("any/w025-onnx")
    run = open_model("run/model_final.pth", "run/config.yaml")
    images = read_images(sorted(Path("my_images").iterdir()), {"size": [96, 80]})
    expected = F.normalize(raw_features(run, 0.25, images))
    torch.testing.assert_close(encoder(images), expected, rtol=0, atol=2e-6)
    with pytest.raises(ValueError, match=r"must be float32 \[N, 3, H, W\]"):
        encoder(images[:, :1])


def test_int8_of_any_size_is_compared_at_three(tool, deployable):
    int8 = (*RUN, "--width", 1.0, "--dynamic-size", "--precision", "int8", "--calibration-images", 16)
    code, _, err = tool(*int8, *ANY, "--output", "sizes")
    assert code == 0, err
    card, model = card_of("sizes/w100-onnx-int8"), deployable[1]
    assert [*card["proof_sizes"]] == ["48x32", "96x48"]
    query, gallery = (labelled(side)[0] for side in ("query", "gallery"))
    images = read_images([*query, *gallery], {"size": [96, 48]})
    with torch.no_grad(), model.switch.use(1):
        expected = F.normalize(model(images.clone()))
    session = onnxruntime.InferenceSession("sizes/w100-onnx-int8/model.onnx")
    found = torch.from_numpy(session.run(None, {"images": images.numpy()})[0])
    cosine = (found * expected).sum(dim=1)
    proof = card["proof_sizes"]["96x48"]
    assert proof["cosine"]["mean"] == pytest.approx(cosine.mean().item(), abs=1e-3)  # batches of another size
    assert proof["cosine"]["mean"] != pytest.approx(card["proof"]["cosine"]["mean"], abs=1e-6)
    assert [cell["gallery"] for cell in proof["mAP"]] == ["w025", "w100", "w100 int8"]


def test_a_loss_at_another_size_alone_leaves_no_file(tool, monkeypatch):
    compare = HeldOut.compare

    def worse_when_large(self, encoder, size=None):
        proof = compare(self, encoder, size)
        return {**proof, "mAP": [{**cell, "drop": 5.0 if size == (96, 48) else 0.0} for cell in proof["mAP"]]}

    monkeypatch.setattr(HeldOut, "compare", worse_when_large)
    half = (*RUN, "--width", 0.25, "--dynamic-size", "--precision", "float16", "--output", "large")
    code, _, err = tool(*half)
    assert code == 2
    assert "found 5.00 at 96x48" in err
    assert not list(Path("large").iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--precision", "int8", "--kind", "checkpoint"], "--precision: is for --kind onnx alone, found checkpoint"),
        (["--dynamic-size", "--kind", "program"], "--dynamic-size: is for --kind onnx alone, found program"),
        (["--precision", "int4"], "command line: argument --precision: invalid choice: 'int4'"),
        (["--precision", "int8", "--max-map-drop", "nan"], f"{ARGUMENT} --max-map-drop: must be a number of"),
        (["--precision", "int8", "--calibration-images", "0"], f"{ARGUMENT} --calibration-images: must be"),
        (["--exclude", "backbone.conv1"], "--exclude: needs --precision int8"),
        (["--precision", "int8", "DATASETS.TESTS", "('NoSet',)"], "data set: must be one of"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line_and_writes_nothing(tool, arguments, message):
    code, _, err = tool(*RUN, "--all", "--output", "bad_input", *arguments)
    assert code == 2
    (line,) = err.splitlines()
    assert line.startswith(f"error: {message}")
    assert not Path("bad_input").exists()


def test_a_layer_that_is_not_there_is_named(tool):
    code, _, err = tool(*RUN, "--width", 1.0, "--precision", "int8", "--exclude", "backbone.conv9", "--output", "out")
    assert code == 2
    assert "error: --exclude: must name layers of the backbone (backbone.conv1, " in err
    assert "found backbone.conv9" in err


FAMILIES = {
    "vit": ("MODEL.SWITCHABLE.BACKBONE", "build_vit_backbone", "MODEL.BACKBONE.DEPTH", "small",
            "MODEL.BACKBONE.FEAT_DIM", "768"),
    "osnet": ("MODEL.SWITCHABLE.BACKBONE", "build_osnet_backbone", "MODEL.BACKBONE.DEPTH", "x0_25",
              "MODEL.BACKBONE.FEAT_DIM", "128"),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_other_families_quantise(tmp_path, family):
    run = open_model("", "configs/quick/sfsc_tiny.yml", [*FAMILIES[family], "MODEL.SWITCHABLE.WIDTHS", "[0.25, 1.0]"])
    card = ModelCard.of_model(run, 0.25, kind="onnx", file="a.onnx", l2_normalised=True)
    write_onnx(standalone(run, 0.25), tmp_path / "a.onnx", card)
    images = torch.rand(16, 3, 64, 32) * 255
    quantiser = Quantiser(tmp_path / "a.onnx", images)
    quantiser.write(tmp_path / "b.onnx")
    low_precision.put_card(tmp_path / "b.onnx", card)
    exact, found = (open_encoder(tmp_path / f"{name}.onnx")(images) for name in "ab")
    assert 0.95 < (exact * found).sum(dim=1).min() < 1 - 1e-6
    if family == "vit":
        with pytest.raises(ValueError, match="--dynamic-size: needs a backbone that takes images of any size"):
            write_onnx(
                standalone(run, 0.25),
                tmp_path / "c.onnx",
                ModelCard.of_model(run, 0.25, kind="onnx", dynamic_size=True),
            )
