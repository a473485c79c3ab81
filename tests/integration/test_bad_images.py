"""Images and labels that no tool may take for sound ones, in training, evaluation, search and extraction."""

import csv
import functools
import json
import struct
import zlib
from pathlib import Path

import fastreid.data.build
import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from builders import TINY
from gallery_builders import write_images

SIZE = (32, 64)  # width and height of a sound picture
FAULTS = {
    "empty.jpg": "must be a readable image, found UnidentifiedImageError",
    "text.png": "must be a readable image, found UnidentifiedImageError",
    "cut.png": "must be a readable image, found ",
    "cut.jpg": "must be a readable image, found OSError: image file is truncated",
    "bomb.png": "must be a readable image, found DecompressionBombError",
    "alpha.png": "must be an RGB or greyscale image; convert it, found mode RGBA",
    "grey_alpha.png": "must be an RGB or greyscale image; convert it, found mode LA",
    "palette.png": "must be an RGB or greyscale image; convert it, found mode P",
    "deep.png": "must be an RGB or greyscale image; convert it, found mode I;16",
    "print.jpg": "must be an RGB or greyscale image; convert it, found mode CMYK",
}


def write_faults(folder):
    """One picture of each fault."""
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (*SIZE[::-1], 3), dtype=np.uint8))
    for name, mode in (("alpha.png", "RGBA"), ("grey_alpha.png", "LA"), ("palette.png", "P"),
                       ("print.jpg", "CMYK"), ("cut.png", "RGB"), ("cut.jpg", "RGB")):  # fmt: skip
        picture.convert(mode).save(folder / name)
    Image.fromarray(np.zeros(SIZE, dtype=np.uint16)).save(folder / "deep.png")
    for name in ("cut.png", "cut.jpg"):
        (folder / name).write_bytes((folder / name).read_bytes()[:-200])
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "text.png").write_text("no image at all")

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0))  # and not a single pixel
    (folder / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", b"") + chunk(b"IEND", b""))


def write_manifest(path, query, gallery, train=()):
    """A manifest of rows (file, identity, camera)."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "pid", "camid", "split"])
        for split, rows in (("train", train), ("query", query), ("gallery", gallery)):
            writer.writerows([*row, split] for row in rows)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Fourteen sound pictures, and the faulty ones; data sets go to a folder of their own."""
    folder = tmp_path_factory.mktemp("images")
    write_images(folder, 14, SIZE)
    write_faults(folder)
    return folder


@pytest.fixture
def model(evaluated_run):
    """The arguments of search.py and extract.py for a sub-model."""
    files = ["--config-file", evaluated_run / "config.yaml", "--weights", evaluated_run / "model_final.pth"]
    return [*files, "--width", 0.5, "--device", "cpu"]


QUERY, GALLERY = [("000.png", 0, 0), ("001.png", 1, 0)], [("002.png", 0, 1), ("003.png", 1, 1), ("004.png", 1, 1)]
TRAIN = [(f"{number:03d}.png", f"t{number % 2}", number // 4) for number in range(6, 14)]
MANIFEST = ["DATASETS.NAMES", "('ManifestReID',)", "DATASETS.TESTS", "('ManifestReID',)", "DATASETS.MANIFEST"]


@pytest.fixture
def tools(run_tool, refused, evaluated_run, model, folder, tmp_path, monkeypatch):
    """Name of a tool to a function that runs it on a manifest, on bad input or on sound."""
    monkeypatch.setattr(fastreid.data.build, "_root", str(folder))  # read when it was imported
    run = ["--config-file", evaluated_run / "config.yaml", "--weights", evaluated_run / "model_final.pth"]

    def arguments(tool, manifest, out):
        data = ["--dataset", "ManifestReID", "--manifest", manifest]
        return {
            "train_net": ["--config-file", TINY, *MANIFEST, manifest, "OUTPUT_DIR", out, "SOLVER.IMS_PER_BATCH", 8,
                          "SOLVER.WARMUP_ITERS", 0, "DATALOADER.SAMPLER_TRAIN", "TrainingSampler",
                          "TEST.PRECISE_BN.ENABLED", False],
            "cross_test": [*run, "--dataset", "ManifestReID", "--output", out, "DATASETS.MANIFEST", manifest],
            "report": [*run, "--dataset", "ManifestReID", "--output", out, "DATASETS.MANIFEST", manifest],
            "search": ["index", *model, *data, "--output", out],
            "extract": [*model, *data, "--output", out],
        }[tool]  # fmt: skip

    def call(how, tool, manifest, out=tmp_path / "out"):
        return how(f"{tool}.py", *how_to_pass(how, arguments(tool, manifest, out)))

    def how_to_pass(how, values):
        return [list(map(str, values))] if how is refused else values

    return {"refused": functools.partial(call, refused), "run": functools.partial(call, run_tool)}


@pytest.mark.parametrize("tool", ["train_net", "cross_test", "report", "search", "extract"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_picture_is_named_and_leaves_no_result(tools, folder, tmp_path, tool, fault):
    train = [(fault, "t0", 0), *TRAIN[1:]] if tool == "train_net" else TRAIN
    gallery = GALLERY if tool == "train_net" else [(fault, 0, 1), *GALLERY]
    manifest = write_manifest(folder / "faulty.csv", QUERY, gallery, train)
    line = tools["refused"](tool, manifest)
    assert line.startswith(f"error: {folder / fault}: {FAULTS[fault]}")
    left = {path.suffix for path in (tmp_path / "out").rglob("*")}
    assert not left & {".pth", ".parquet", ".faiss", ".html", ".csv", ".npz"}


@pytest.mark.parametrize("tool", ["train_net", "report", "search", "extract"])
def test_a_picture_of_one_bit_per_pixel_is_read_by_all(tools, folder, tmp_path, tool):
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, SIZE[::-1], dtype=np.uint8))
    picture.convert("1").save(folder / "bits.png")
    train = [("bits.png", "t0", 0), *TRAIN[1:]] if tool == "train_net" else TRAIN
    manifest = write_manifest(folder / "bits.csv", QUERY, [("bits.png", 0, 1), *GALLERY], train)
    code, _, err = tools["run"](tool, manifest)
    assert code == 0, err


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_query_is_named(tools, refused, model, folder, tmp_path, fault):
    code, _, err = tools["run"]("search", write_manifest(folder / "sound.csv", QUERY, GALLERY), tmp_path / "gallery")
    assert code == 0, err
    arguments = ["query", "--gallery", tmp_path / "gallery", *model, "--images", folder / "000.png", folder / fault]
    line = refused("search.py", [*map(str, arguments), "--top", "1", "--json", str(tmp_path / "found.json")])
    assert line.startswith(f"error: {folder / fault}: {FAULTS[fault]}")
    assert not (tmp_path / "found.json").exists()


LABELS = {
    "no query": ([], GALLERY, "no query images"),
    "no gallery": (QUERY, [], "no gallery images"),
    "one camera": (QUERY, [(path, pid, 0) for path, pid, _ in GALLERY], "from their own camera"),
    "strangers": (QUERY, [(path, pid + 2, camera) for path, pid, camera in GALLERY], "not in the gallery"),
}


@pytest.mark.parametrize("tool", ["train_net", "cross_test", "report"])
@pytest.mark.parametrize("labels", LABELS)
def test_a_test_set_without_a_valid_query_is_refused_before_any_picture_is_read(tools, folder, tmp_path, tool, labels):
    query, gallery, message = LABELS[labels]
    manifest = write_manifest(folder / "labels.csv", query, [("empty.jpg", 8, 1), *gallery] if gallery else [], TRAIN)
    assert message in tools["refused"](tool, manifest)
    assert not list((tmp_path / "out").glob("*.json"))


@pytest.mark.parametrize("labels", ["one camera", "strangers"])
def test_a_search_without_a_valid_query_has_results_and_says_so(tools, run_tool, model, folder, tmp_path, labels):
    query, gallery, _ = LABELS[labels]
    manifest = write_manifest(folder / "labels.csv", query, gallery)
    assert tools["run"]("search", manifest, tmp_path / "gallery")[0] == 0
    data = ["--dataset", "ManifestReID", "--manifest", manifest, "--top", 3, "--json", tmp_path / "found.json"]
    code, out, err = run_tool("search.py", "query", "--gallery", tmp_path / "gallery", *model, *data)
    assert code == 0, err
    (line,) = [line for line in out.splitlines() if line.startswith("no metrics: ")]
    cause = {"one camera": "every match has the query's own camera", "strangers": "no query identity appears in"}
    assert cause[labels] in line
    assert [word for word in out.split() if word == Path(query[0][0]).name], "the table of results"
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["metrics"] is None
    assert [len(one["found"]) for one in found["queries"]] == [3] * len(query)


def test_odd_but_sound_pictures_and_labels(tools, folder, tmp_path):
    """A grey picture is its RGB copy, large and small ones are resized, Rank-10 of few is all, a query no match."""
    pixels = np.random.default_rng(1).integers(0, 256, SIZE[::-1], dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "grey.png")
    Image.fromarray(np.repeat(pixels[..., None], 3, axis=2)).save(folder / "grey_as_rgb.png")
    Image.new("RGB", (6000, 40), (9, 99, 200)).save(folder / "large.png")
    Image.new("RGB", (1, 1), (9, 99, 200)).save(folder / "small.png")
    names = ["grey.png", "grey_as_rgb.png", "large.png", "small.png"]
    gallery = [*GALLERY, *((name, 9, 1) for name in names), QUERY[0]]  # the query itself, too
    manifest = write_manifest(folder / "odd.csv", QUERY, gallery)
    code, _, err = tools["run"]("extract", manifest, tmp_path / "shards")
    assert code == 0, err
    rows = pq.read_table(tmp_path / "shards" / "part-00000-of-00001.parquet").to_pylist()
    features = {row["path"].rpartition("/")[2]: np.array(row["feature"]) for row in rows}
    np.testing.assert_allclose(features["grey.png"], features["grey_as_rgb.png"], atol=1e-6)  # one batch, other places
    np.testing.assert_allclose(features["large.png"], features["small.png"], atol=1e-5)  # one colour is one colour
    assert np.abs(features["grey.png"] - features["large.png"]).max() > 1e-4

    found = []
    for rows, name in ((gallery, "with"), (gallery[:-1], "without")):
        code, _, err = tools["run"]("cross_test", write_manifest(folder / "odd.csv", QUERY, rows), tmp_path / name)
        assert code == 0, err
        assert json.loads((tmp_path / name / "grid.json").read_text())["Rank-10"] == [[100.0] * 2] * 2
        found.append(np.load(tmp_path / name / "queries.npz")["average_precision"])
    # A query's own file has its identity and camera and is left out; to the other query it is one more that is wrong.
    np.testing.assert_array_equal(found[0][..., 0], found[1][..., 0])
