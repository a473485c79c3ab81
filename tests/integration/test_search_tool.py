"""tools/search.py, extract.py and try_index.py: one family's grid, ONNX files, shards, and what is refused."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gallery_builders import CARD, PREPROCESSING, pooled_by_hand, write_images, write_onnx
from switchablecompat.deploy.image_list import items_of_dataset


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
        ({"preprocessing": {**PREPROCESSING, "size": [16, 8]}}, ("preprocessing.size", "[8, 4]", "[16, 8]")),
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
    assert "shards: must hold all 3 shards: start the extraction again, found 1, without part-00000-of-00003" in err
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


def test_an_extraction_says_how_many_images_it_left_out(tool, tmp_path):
    images = write_images(tmp_path / "images", 5)
    images[3].write_bytes(b"no picture")
    model = write_onnx(tmp_path / "w100.onnx")
    extract = ("extract.py", "--model", model, "--images", tmp_path / "images", "--output", tmp_path / "shards")
    for written in ("1 shards written, 0", "0 shards written, 1"):
        code, out, err = tool(*extract, "--skip-unreadable")
        assert code == 0, err
        assert out == f"process 0 of 1: {written} were there, 1 images left out (5 images in all, {tmp_path}/images)\n"
    code, out, err = tool(*extract)
    assert (code, out) == (2, "")
    assert "003.png: must be a readable image" in err


def test_a_picture_that_is_given_twice_is_in_the_gallery_once(tool, tmp_path, monkeypatch, caplog):
    images = write_images(tmp_path / "images", 3)
    monkeypatch.chdir(tmp_path)
    twice = ("--model", write_onnx(tmp_path / "w100.onnx"), "--images", "images", "./images/001.png", images[2])
    code, out, err = tool("search.py", "index", *twice, "--output", tmp_path / "g")
    assert code == 0, err
    assert f"{tmp_path / 'g'}: 3 items by w100" in out
    assert caplog.text.count("3 images; left out: 2 that are given again") == 1


@pytest.mark.parametrize("name", ["search.py", "extract.py", "try_index.py"])
def test_help_has_an_example(tool, name):
    code, out, _ = tool(name, "--help")
    assert code == 0
    assert f"python tools/{name} " in out


@pytest.fixture
def people(tmp_path):
    """Five people, a query and three gallery pictures each, in a manifest without cameras; the queries are in both."""
    rows = ["path,pid,split"]
    for number, path in enumerate(write_images(tmp_path / "data" / "pictures", 20)):
        rows.append(f"pictures/{path.name},person {number % 5},gallery")
        if number < 5:
            rows.append(f"pictures/{path.name},person {number % 5},query")
    (tmp_path / "data" / "manifest.csv").write_text("\n".join(rows))
    (tmp_path / "link").symlink_to("data")
    return tmp_path


def searched(tool, model, folder, index_by, query_by, *more):
    """Index and query one manifest under two names; returns what the query wrote."""
    common = ("--model", model, "--dataset", "ManifestReID", "--manifest")
    code, _, err = tool("search.py", "index", *common, index_by, "--output", folder / "gallery")
    assert code == 0, err
    result = folder / "found.json"
    code, out, err = tool(
        "search.py", "query", *common, query_by, "--gallery", folder / "gallery", "--json", result, *more
    )
    assert code == 0, err
    return json.loads(result.read_text()), out


@pytest.mark.parametrize(
    "name", ["data/manifest.csv", "./data/../data/manifest.csv", "link/manifest.csv", "{absolute}"]
)
def test_a_query_is_junk_to_itself_however_the_manifest_is_named(tool, people, monkeypatch, name):
    monkeypatch.chdir(people)
    model = write_onnx(people / "w100.onnx")
    absolute = str(people / "data" / "manifest.csv")
    found, _ = searched(tool, model, people, absolute, name.format(absolute=absolute))
    for query in found["queries"]:
        itself = query["found"][0]
        assert Path(itself["path"]).name == Path(query["path"]).name
        assert itself["match"] == "junk"
        assert query["pid"].startswith("person ")  # as the CSV says it
        assert itself["pid"] == query["pid"]
    assert found["metrics"]["Rank-1"] < 100


def test_the_default_top_of_a_small_gallery_is_what_there_is(tool, tmp_path):
    write_images(tmp_path / "images", 4)
    model = ("--model", write_onnx(tmp_path / "w100.onnx"), "--images", tmp_path / "images")
    assert tool("search.py", "index", *model, "--output", tmp_path / "gallery")[0] == 0
    query = ("search.py", "query", *model, "--gallery", tmp_path / "gallery")
    code, _, err = tool(*query, "--json", tmp_path / "found.json")
    assert code == 0, err
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["top"] == 4
    assert [len(one["found"]) for one in found["queries"]] == [4] * 4
    code, _, err = tool(*query, "--top", 5)  # who asks for more is told
    assert code == 2
    assert "number of items to find: must be from 1 to the 4 of the gallery, found 5" in err


def test_a_stored_search_is_shown_without_model_index_or_gallery(tool, people, monkeypatch):
    model = write_onnx(people / "w100.onnx")
    manifest = people / "data" / "manifest.csv"
    found, out = searched(tool, model, people, manifest, manifest, "--pick", "worst", "--show", 2)
    for path in (model, *(people / "gallery").iterdir()):
        path.unlink()
    show = ("search.py", "show", "--results", people / "found.json")
    code, again, err = tool(*show, "--pick", "worst", "--show", 2, "--picture", people / "worst.png", "--rows", 2)
    assert code == 0, err
    assert again == out
    with Image.open(people / "worst.png") as picture:
        assert picture.format == "PNG"
    precisions = [one["average_precision"] for one in found["queries"]]
    assert all(0 <= value <= 1 for value in precisions)
    assert 100 * np.mean(precisions) == pytest.approx(found["metrics"]["mAP"])
    order = np.argsort(precisions, kind="stable")
    for pick, expected in (("worst", order), ("best", order[::-1])):
        _, text, _ = tool(*show, "--pick", pick, "--show", 5)
        first = [Path(found["queries"][i]["path"]).name for i in expected]
        assert [line.split()[0] for line in text.splitlines() if line.startswith("0")] == first


def test_a_picture_that_cannot_be_drawn_costs_no_result(tool, people):
    model, manifest = write_onnx(people / "w100.onnx"), people / "data" / "manifest.csv"
    common = ("--model", model, "--dataset", "ManifestReID", "--manifest", manifest)
    assert tool("search.py", "index", *common, "--output", people / "gallery")[0] == 0
    (people / "data" / "pictures" / "007.png").unlink()  # of the gallery; its feature is in the index
    query = ("search.py", "query", *common[:2], "--images", people / "data" / "pictures" / "000.png", "--top", 20)
    files = ("--gallery", people / "gallery", "--json", people / "found.json", "--picture", people / "found.png")
    code, _, err = tool(*query, *files)
    assert code == 2, err
    assert "007.png" in err
    assert len(json.loads((people / "found.json").read_text())["queries"][0]["found"]) == 20


def test_flipped_queries_are_those_that_another_search_had_right(tool, people):
    model, manifest = write_onnx(people / "w100.onnx"), people / "data" / "manifest.csv"
    found, _ = searched(tool, model, people, manifest, manifest)
    before = people / "before.json"
    for one, rank in zip(found["queries"], (1, 1, 1, 5, None), strict=True):
        one["first_hit_rank"] = rank
        one["average_precision"] = rank and 1 / rank
    before.write_text(json.dumps(found))
    for one, rank in zip(found["queries"], (3, 1, 7, 9, 2), strict=True):
        one["first_hit_rank"], one["average_precision"] = rank, 1 / rank
    (people / "now.json").write_text(json.dumps(found))
    show = ("search.py", "show", "--results", people / "now.json", "--pick", "flipped")
    code, out, err = tool(*show, "--against", before, "--picture", people / "flipped.png")
    assert code == 0, err
    names = [line.split()[0] for line in out.splitlines() if line.startswith("0")]
    assert names == ["002.png", "000.png"]  # from 1 to 7, from 1 to 3; the others were not right, or still are
    assert (people / "flipped.png").is_file()
    found["queries"].reverse()
    (people / "other.json").write_text(json.dumps(found))
    for more, message in (
        ((), "--pick: flipped needs --against"),
        (("--against", people / "other.json"), "--against: must have the same queries in the same order"),
        (("--against", manifest), "manifest.csv: must be what the command search query --json wrote"),
    ):
        code, _, err = tool(*show, *more)
        assert code == 2
        assert message in err
    code, _, err = tool(*show, "--against", people / "now.json", "--picture", people / "none.png")
    assert code == 2  # nothing flipped
    assert "--picture: must have something to draw, found 0 queries (flipped)" in err
