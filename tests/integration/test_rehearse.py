"""tools/rehearse.py: both ends of an upgrade are the cells that the export measured, and queries go on in between."""

import errno
import json

import numpy as np
import pytest
import torch.nn.functional as F

from switchablecompat.deploy.files.opening import open_encoder
from switchablecompat.deploy.gallery import upgrade
from switchablecompat.deploy.gallery.milvus_server import connection
from switchablecompat.deploy.image_list import LabelledImage, items_of_dataset
from switchablecompat.deploy.images import read_images
from switchablecompat.errors import InputError
from switchablecompat.widths import width_name

OPTIONS = ("--camera", 0.5, "--old", 0.25, "--new", 1.0, "--max-map-drop", 100, "--far", 0.1)

WIDTHS = "[0.25, 0.5, 1.0]"


@pytest.fixture(scope="module")
def work(deployable):
    return deployable[0]


@pytest.fixture
def tool(work, run_tool, monkeypatch):
    """Run the script in the user's folder."""
    monkeypatch.chdir(work)
    monkeypatch.setenv("FASTREID_DATASETS", str(work / "datasets"))
    return lambda *arguments: run_tool("rehearse.py", "--weights", "run/model_final.pth", *arguments)


def features(path, items):
    images = read_images([item.path for item in items], {"size": [64, 32]})
    return F.normalize(open_encoder(path)(images)).numpy()


def test_a_rehearsal_begins_and_ends_in_cells_of_the_family(tool, work):
    code, out, err = tool(*OPTIONS, "--output", "out")
    assert code == 0, err[-2000:]
    content = json.loads((work / "out" / "rehearsal.json").read_text())
    stages = content["stages"]
    assert [stage["share"] for stage in stages] == list(range(0, 101, 10))
    proof = json.loads((work / "out" / "export" / "w050-onnx-int8" / "model.json").read_text())["proof"]["mAP"]
    cells = {cell["gallery"]: cell["mAP"] for cell in proof}
    assert content["num_queries"] == 24  # all of them
    for stage, width in ((stages[0], 0.25), (stages[-1], 1.0)):
        assert stage["mAP"] == pytest.approx(cells[width_name(width)], abs=0.05)
    assert len({round(stage["mAP"], 3) for stage in stages}) > 3
    assert all(stage["answered"] > 0 for stage in stages[1:])

    queries, gallery = (items_of_dataset("SyntheticReIDTiny", side) for side in ("query", "gallery"))
    similarity = features("out/export/w050-onnx-int8", queries) @ features("out/export/w100-onnx", gallery).T
    same, camera = (
        np.array([[query[column] == item[column] for item in gallery] for query in queries]) for column in (1, 2)
    )
    accepted = similarity >= content["threshold"]
    assert stages[-1]["tar"] == pytest.approx(100 * accepted[same & ~camera].mean(), abs=1e-6)
    assert stages[-1]["far"] == pytest.approx(accepted[~same].mean(), abs=1e-3)  # of a pair at the threshold
    assert stages[-1]["far"] <= 0.1
    assert f"{stages[-1]['mAP']:.2f}" in out
    assert (work / "out" / "rehearsal.png").read_bytes().startswith(b"\x89PNG")

    with connection("out/gallery.db") as client:
        client.rename_collection("rehearsal", "kept")
        client.create_collection("rehearsal", dimension=8)
    code, _, err = tool(*OPTIONS, "--output", "out")
    assert code == 2  # what is not ours stays
    assert "error: collection rehearsal: must be a gallery that the command search index made" in err


def test_a_gallery_above_milvuss_limit_is_refused_before_the_work(tool, tmp_path, monkeypatch):
    item = LabelledImage("a.jpg", "p", "c")
    upgrade.check_size([item] * 16_384)
    with pytest.raises(InputError, match="gallery of a rehearsal: must have at most the 16384 .* found 16385"):
        upgrade.check_size([item] * 16_385)
    monkeypatch.setattr(upgrade, "DEEPEST", 20)
    code, _, err = tool(*OPTIONS, "--output", tmp_path / "out")
    assert code == 2
    assert "error: gallery of a rehearsal: must have at most the 20 items that Milvus ranks for a query, found " in err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--camera", "0.3"], "run/model_final.pth: must have a sub-model of width 0.3, found widths [0.25, 0.5, 1.0]"),
        (["--old", "1.0"], "--new: must be another width than --old, found 1.0"),
        (
            ["--camera", "0.25", "--old", "0.25", "--far", "1e-6", "--precision", "float32"],
            "--far: must be one that the pairs of the data set can show",
        ),
        (["--far", "5"], "command line: argument --far: must be a number above 0 and below 1, found '5'"),
        (["--far", "nan"], "command line: argument --far: must be a number above 0 and below 1, found 'nan'"),
        (["--queries", "0"], "command line: argument --queries: must be a whole number of at least 1"),
    ],
)
def test_bad_input_is_one_line(tool, tmp_path, arguments, message):
    code, _, err = tool(*arguments, "--output", tmp_path / "out")
    assert code == 2
    assert f"error: {message}" in err


def test_an_image_that_the_system_cannot_read_is_no_fault_of_the_output(tool, tmp_path, monkeypatch):
    def broken(*_):
        raise OSError(errno.EIO, "Input/output error", "lost.png")

    monkeypatch.setattr("switchablecompat.deploy.files.parity.read_images", broken)
    code, _, err = tool(*OPTIONS, "--output", tmp_path / "out")
    assert code == 2
    assert "error: lost.png: must be readable, or writable, found Input/output error" in err
