"""tools/search.py, extract.py and try_index.py: one family's grid, ONNX files, shards, and what is refused."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gallery_builders import CARD, PREPROCESSING, pooled_by_hand, write_images, write_onnx
from switchablecompat.deploy.items import items_of_dataset


@pytest.fixture
def tool(run_tool):
    """Run a script in this process; returns exit code, output and errors."""
    return run_tool


@pytest.fixture
def run(evaluated_run):
    """A switchable model with random weights, and the grid that the trainer writes for it."""
    return evaluated_run


def run_arguments(run, width):
    files = ["--config-file", run / "config.yaml", "--weights", run / "model_final.pth"]
    return [*files, "--width", width, "--device", "cpu"]


def test_a_search_across_sub_models_has_the_metrics_of_the_grid(tool, run, tmp_path):
    grid = json.loads((run / "grid.json").read_text())
    name = grid["dataset"]
    code, out, err = tool(
        "search.py", "index", *run_arguments(run, 1.0), "--dataset", name, "--output", tmp_path / "gallery"
    )
    assert code == 0, err
    assert f"{grid['num_gallery']} items by w100 of family {grid['family']}" in out
    code, out, err = tool(
        "search.py", "query", "--gallery", tmp_path / "gallery", *run_arguments(run, 0.5), "--dataset", name,
        "--top", 3, "--json", tmp_path / "found.json", "--picture", tmp_path / "found.png", "--rows", 2, "--show", 1,
    )  # fmt: skip
    assert code == 0, err
    found = json.loads((tmp_path / "found.json").read_text())
    for metric in ("mAP", "Rank-1", "Rank-5"):
        # float32 products are summed in another order: two items that score alike may change places
        assert found["metrics"][metric] == pytest.approx(grid[metric][0][1], abs=0.02)
        assert f"{metric} {found['metrics'][metric]:.2f}" in out
    assert found["metrics"]["mAP"] != pytest.approx(grid["mAP"][0][0], abs=0.5)  # the cell is told from its neighbour
    queries = items_of_dataset(name, "query")
    assert [query["path"] for query in found["queries"]] == [item.path for item in queries]
    first = found["queries"][0]
    assert [hit["rank"] for hit in first["found"]] == [1, 2, 3]
    assert first["found"][0]["score"] >= first["found"][1]["score"]
    assert Path(first["found"][0]["path"]).name in out
    assert found["query_model"]["width"] == 0.5
    assert found["gallery"]["model"]["width"] == 1.0
    with Image.open(tmp_path / "found.png") as picture:
        assert picture.format == "PNG"
        assert picture.width > picture.height / 2


@pytest.fixture
def onnx_gallery(tool, tmp_path):
    """A gallery of twelve images by the full model of an exported family."""
    write_images(tmp_path / "images", 12)
    model = write_onnx(tmp_path / "w100.onnx")
    code, _, err = tool(
        "search.py", "index", "--model", model, "--images", tmp_path / "images", "--output", tmp_path / "g"
    )
    assert code == 0, err
    return tmp_path / "g"


def test_an_onnx_file_finds_images_in_another_ones_gallery(tool, onnx_gallery, tmp_path):
    model = write_onnx(tmp_path / "w025.onnx", width=0.25)
    images = sorted((tmp_path / "images").iterdir())
    code, out, err = tool(
        "search.py", "query", "--gallery", onnx_gallery, "--model", model, "--images", images[7], images[2],
        "--top", 12, "--json", tmp_path / "found.json", "--picture", tmp_path / "found.png",
    )  # fmt: skip
    assert code == 0, err
    features = np.array([pooled_by_hand(path) for path in images])
    found = json.loads((tmp_path / "found.json").read_text())
    for query, number in zip(found["queries"], (7, 2), strict=True):
        order = np.argsort(-(features @ features[number]))
        assert [hit["id"] for hit in query["found"]] == order.tolist()
        assert [hit["path"] for hit in query["found"]] == [str(images[i]) for i in order]
        scores = [hit["score"] for hit in query["found"]]
        np.testing.assert_allclose(scores, (features @ features[number])[order], atol=1e-5)
        assert {hit["match"] for hit in query["found"]} == {None}
    assert found["metrics"] is None
    assert "mAP" not in out
    assert "Queries by w025, gallery by w100" in out
    assert f"2 queries ({images[7]} and 1 more) on 12 items ({tmp_path / 'images'})" in out
    assert (tmp_path / "found.png").is_file()


@pytest.mark.parametrize(
    ("change", "values"),
    [
        ({"family": "sha256:2"}, ("family", "sha256:1", "sha256:2")),
        ({"dimension": 12}, ("dimension", "24", "12")),
        ({"preprocessing": {**PREPROCESSING, "size": [16, 8]}}, ("preprocessing", "[8, 4]", "[16, 8]")),
        ({"metric": "euclidean"}, ("metric", CARD.metric, "euclidean")),
    ],
)
def test_another_feature_space_is_refused_with_both_values(tool, onnx_gallery, tmp_path, change, values):
    model = write_onnx(tmp_path / "other.onnx", **change)
    code, _, err = tool(
        "search.py", "query", "--gallery", onnx_gallery, "--model", model, "--images", tmp_path / "images"
    )
    assert code == 2
    (line,) = [line for line in err.splitlines() if line.startswith("error: ")]
    assert line.startswith(f"error: {values[0]}: must be the same to compare features, found ")
    assert f"{values[1]}" in line.partition(f" in the gallery {onnx_gallery} and ")[0]
    assert f"{values[2]}" in line.partition(f" in the gallery {onnx_gallery} and ")[2]


def test_shards_of_two_processes_make_the_gallery_of_one(tool, onnx_gallery, tmp_path, monkeypatch):
    model = tmp_path / "w100.onnx"
    extract = ["extract.py", "--model", model, "--images", tmp_path / "images", "--output", tmp_path / "shards"]
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    assert tool(*extract, "--shard-size", 5)[1].startswith("process 1 of 2: 1 shards written, 0 were there")
    index = ["search.py", "index", "--shards", tmp_path / "shards", "--output", tmp_path / "from_shards"]
    code, _, err = tool(*index)
    assert code == 2
    assert "shards: must hold all 3 shards: start tools/extract.py again, found 1, without part-00000-of-00003" in err
    monkeypatch.setenv("RANK", "0")
    assert tool(*extract, "--shard-size", 5)[0] == 0
    assert tool(*extract, "--shard-size", 5)[1].startswith("process 0 of 2: 0 shards written, 2 were there")
    code, _, err = tool(*index)
    assert code == 0, err
    found = []
    for gallery in (onnx_gallery, tmp_path / "from_shards"):
        query = ["search.py", "query", "--gallery", gallery, "--model", model, "--images", tmp_path / "images"]
        assert tool(*query, "--json", tmp_path / "found.json")[0] == 0
        queries = json.loads((tmp_path / "found.json").read_text())["queries"]
        found.append([[(hit["id"], hit["path"]) for hit in query["found"]] for query in queries])
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["query", "--gallery", "{g}", "--model", "{onnx}", "--images", "{images}", "--top", "13"],
         "number of items to find: must be from 1 to the 12 of the gallery, found 13"),
        (["query", "--gallery", "{g}", "--model", "{onnx}", "--images", "{images}", "--top", "0"],
         "argument --top: must be a whole number of at least 1, found '0'"),
        (["query", "--gallery", "{g}", "--model", "{onnx}", "--images", "{bad}"], "must be a readable image"),
        (["query", "--gallery", "{g}", "--model", "{onnx}", "--images", "{empty}"], "empty: must hold images"),
        (["query", "--gallery", "{g}", "--model", "{onnx}", "--images", "{none}"], "none: must be an existing folder"),
        (["query", "--gallery", "{empty}", "--model", "{onnx}", "--images", "{images}"], "index.json: must be"),
        (["query", "--gallery", "{cut}", "--model", "{onnx}", "--images", "{images}"], "index.faiss: must be a"),
        (["query", "--gallery", "{g}", "--model", "{onnx}", "--images", "{images}", "--pick", "best"], "--pick: must"),
        (["query", "--gallery", "{g}", "--model", "{onnx}"], "command line: must have --images or --dataset"),
        (["query", "--gallery", "{g}", "--images", "{images}"], "command line: must have --model, or --weights"),
        (["index", "--model", "{onnx}", "--images", "{empty}", "--output", "{out}"], "empty: must hold images"),
        (["index", "--model", "{onnx}", "--images", "{bad}", "--output", "{out}"], "must be a readable image"),
        (["index", "--model", "{onnx}", "--images", "{images}", "--output", "{out}", "--factory", "Best"],
         "--factory: must be an index of FAISS for inner products in 24 dimensions, found could not parse"),
        (["index", "--model", "{onnx}", "--images", "{images}", "--output", "{images}"], "images: must be new, or"),
        (["index", "--model", "{onnx}", "--shards", "{images}", "--output", "{out}"], "--shards: must stand without"),
        (["index", "--model", "{bad}", "--images", "{images}", "--output", "{out}"], "bad.png: must"),
        ([], "the following arguments are required: index|query"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line_and_writes_nothing(tool, onnx_gallery, tmp_path, arguments, message):
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.png").write_bytes(b"no picture")
    cut = tmp_path / "cut"
    cut.mkdir()
    for path in onnx_gallery.iterdir():
        (cut / path.name).write_bytes(path.read_bytes()[: -10 if path.name == "index.faiss" else None])
    names = {name: tmp_path / name for name in ("g", "images", "empty", "none", "out", "cut")}
    names |= {"onnx": tmp_path / "w100.onnx", "bad": tmp_path / "bad.png"}
    code, _, err = tool("search.py", *(text.format(**names) for text in arguments))
    assert code == 2
    (line,) = [line for line in err.splitlines() if line.startswith("error: ")]
    assert message in line
    assert not (tmp_path / "out").exists()
    assert len(list((tmp_path / "images").iterdir())) == 12


def test_an_index_that_visits_all_lists_loses_nothing(tool, tmp_path):
    code, out, err = tool(
        "try_index.py", "--generate", 3000, "--dimension", 16, "--factory", "IVF8,Flat", "--output", tmp_path,
        "--parameters", "nprobe=1", "nprobe=8",
    )  # fmt: skip
    assert code == 0, err
    result = json.loads((tmp_path / "trial.json").read_text())
    least, most = (row["recall@10"] for row in result["recall"])
    assert most == 100
    assert least < 95
    assert (result["num_vectors"], result["vector_bytes"]) == (3000, 3000 * 16 * 4)
    assert result["peak_bytes"] >= result["imports_bytes"] > 50e6
    assert "3000 vectors of 16 dimensions, IVF8,Flat" in out


@pytest.mark.parametrize("name", ["search.py", "extract.py", "try_index.py"])
def test_without_pyarrow_one_line_says_how_to_get_it(tool, monkeypatch, name):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.delitem(sys.modules, "gallery_arguments", raising=False)
    code, _, err = tool(name, "--help")
    assert code == 2
    assert err == "error: pyarrow is needed for galleries: pip install '.[deploy]'\n"


@pytest.mark.parametrize("name", ["search.py", "extract.py", "try_index.py"])
def test_help_has_an_example(tool, name):
    code, out, _ = tool(name, "--help")
    assert code == 0
    assert f"python tools/{name} " in out
