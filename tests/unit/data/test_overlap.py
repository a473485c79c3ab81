"""What is trained and tested at once is found, whatever files, links and data sets are called."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import layouts
from builders import tiny_config
from switchablecompat.data.check import check_images
from switchablecompat.data.findings import LabelNames
from switchablecompat.data.opening import check_test_set, open_dataset
from switchablecompat.data.overlap import check_contents, check_copies, check_labels_of_contents, check_overlap
from switchablecompat.engine.setup import check_datasets
from switchablecompat.errors import InputError


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    layouts.market1501(tmp_path)
    layouts.msmt17(tmp_path)
    monkeypatch.setenv("FASTREID_DATASETS", str(tmp_path))
    return tmp_path


def codes(findings) -> list[str]:
    return [one.code for one in findings]


def manifest(root: Path, name: str, rows: list[str]) -> Path:
    path = root / name
    path.write_text("\n".join(["path,pid,camid,split", *rows]) + "\n")
    return path


def test_combineall_trains_on_the_test_set(root: Path) -> None:
    dataset, splits = open_dataset("Market1501", str(root), "", combine_all=True)
    assert len(splits["train"]) == 16 + 3 + 12
    found = check_test_set(dataset, splits, splits["train"])
    assert {"files-shared", "identities-shared"} <= {*codes(found)}
    assert next(one for one in found if one.code == "files-shared").message.startswith("15 test files are also")


def test_training_says_so_with_combineall(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    options = ("DATASETS.NAMES", ("Market1501",), "DATASETS.TESTS", ("Market1501",), "SOLVER.IMS_PER_BATCH", 8)
    options = (*options, "TEST.PRECISE_BN.DATASET", "Market1501", "MODEL.HEADS.NUM_CLASSES", 0)
    check_datasets(tiny_config(*options), eval_only=False)
    assert "are also training files" not in caplog.text
    check_datasets(tiny_config(*options, "DATASETS.COMBINEALL", True), eval_only=False)
    assert "15 test files are also training files" in caplog.text


@pytest.mark.parametrize("classes", [5, 6])
def test_classes_are_counted_in_what_is_really_trained(root: Path, classes: int) -> None:
    options = ("DATASETS.NAMES", ("Market1501",), "DATASETS.TESTS", ("MSMT17",), "SOLVER.IMS_PER_BATCH", 8)
    options = (*options, "TEST.PRECISE_BN.DATASET", "Market1501", "MODEL.HEADS.NUM_CLASSES", classes)
    check_datasets(tiny_config(*options), eval_only=False)
    with pytest.raises(InputError, match=rf"NUM_CLASSES: .*training identities \(7\), found {classes}"):
        check_datasets(tiny_config(*options, "DATASETS.COMBINEALL", True), eval_only=False)


@pytest.mark.parametrize("how", ["plain", "linked folder", "linked files", "hard links"])
def test_a_training_manifest_of_another_sets_test_files(root: Path, how: str, caplog: pytest.LogCaptureFixture) -> None:
    gallery = root / "Market-1501-v15.09.15" / "bounding_box_test"
    folder = gallery if how == "plain" else root / "mine"
    if how == "linked folder":
        folder.symlink_to(gallery)
    elif how != "plain":
        folder.mkdir()
        for number, path in enumerate(sorted(gallery.iterdir())):
            new = folder / f"{number}.jpg"
            new.symlink_to(path) if how == "linked files" else os.link(path, new)
    names = [f"{folder.name}/{path.name}" if how != "plain" else str(path) for path in sorted(folder.iterdir())]
    rows = [f"{name},person{number // 4},c{number % 2},train" for number, name in enumerate(names)]
    options = ("DATASETS.NAMES", ("ManifestReID",), "DATASETS.MANIFEST", manifest(root, "m.csv", rows))
    options = (*options, "DATASETS.TESTS", ("Market1501",), "SOLVER.IMS_PER_BATCH", 8)
    options = (*options, "TEST.PRECISE_BN.DATASET", "ManifestReID", "MODEL.HEADS.NUM_CLASSES", 0)
    check_datasets(tiny_config(*options), eval_only=False)
    assert "test data Market1501: 12 test files are also training files" in caplog.text


def test_numbers_of_two_data_sets_are_not_one_identity(root: Path) -> None:
    """Market-1501's training identity 2 and MSMT17's test identity 2 are two people."""
    train = open_dataset("Market1501", str(root), "")[1]["train"]
    dataset, splits = open_dataset("MSMT17", str(root), "")
    assert "identities-shared" not in codes(check_test_set(dataset, splits, train, own=False))
    bare = [(path, int(pid.rsplit("_", 1)[1]), camid) for path, pid, camid in train]  # a class that gives numbers
    assert "identities-shared" not in codes(check_test_set(dataset, splits, bare, own=False))


def test_a_manifest_combined_trains_each_person_as_one_class(root: Path) -> None:
    folder = "Market-1501-v15.09.15"
    rows = [f"{folder}/bounding_box_train/0002_c1s1_1.jpg,anna,c1,train",
            f"{folder}/query/0001_c1s1_0.jpg,anna,c1,query", f"{folder}/query/0001_c1s1_0.jpg,anna,c1,gallery",
            f"{folder}/bounding_box_test/0001_c2s1_1.jpg,bert,c2,gallery"]  # fmt: skip
    path = manifest(root, "m.csv", rows)
    _, splits = open_dataset("ManifestReID", "", str(path), combine_all=True)
    assert [(Path(item[0]).name, item[1]) for item in splits["train"]] == [
        ("0002_c1s1_1.jpg", "manifest_0"), ("0001_c1s1_0.jpg", "manifest_0"), ("0001_c2s1_1.jpg", "manifest_1")
    ]  # fmt: skip
    assert [len(splits[name]) for name in ("query", "gallery")] == [1, 2]


def picture(path: Path, seed: int, **options) -> str:
    pixels = np.random.default_rng(seed).integers(0, 255, (32, 16, 3), dtype=np.uint8)
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return str(path)


def contents_of(*paths: str) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    check_images(paths, workers=1, contents=found)
    return found


@pytest.mark.parametrize("suffix", ["png", "bmp", "tiff"])  # the same pixels in another file, of other bytes
def test_equal_contents_under_other_names(tmp_path: Path, suffix: str) -> None:
    a, b, c = (picture(tmp_path / f"{number}.png", number) for number in range(3))
    twin = picture(tmp_path / "copies" / f"x.{suffix}", 0)
    contents = contents_of(a, b, c, twin)
    query, gallery = [(twin, 7, 0)], [(b, 7, 1), (c, 8, 1)]
    (found,) = check_contents([(a, "ds_1", "ds_0")], query, gallery, contents)
    assert (found.level, found.code) == ("warning", "contents-shared")
    assert found.message == f"1 test images have the content of a training image of another name: {twin} = {a}"
    (found,) = check_contents(None, query, [*gallery, (a, 7, 1)], contents)
    assert (found.level, found.code) == ("warning", "query-copy-in-gallery")
    assert check_contents([(c, "ds_1", "ds_0")], [(a, 7, 0)], [(b, 7, 1)], contents) == []


def test_a_file_is_no_copy_of_itself_however_it_is_spelt(tmp_path: Path) -> None:
    a = picture(tmp_path / "data" / "0.png", 0)
    (tmp_path / "link").symlink_to("data")
    other = str(tmp_path / "link" / "0.png")
    contents = contents_of(a, other)
    assert check_contents(None, [(a, 7, 0)], [(other, 7, 0)], contents) == []
    assert codes(check_copies([(a, 7, 0)], [(other, 7, 0)])) == ["query-in-gallery-ignored"]
    assert codes(check_copies([(a, 7, 0)], [(other, 7, 1)])) == ["query-in-gallery"]
    assert codes(check_overlap([(a, "x", "y")], [(other, 7, 1)], None, LabelNames(), False)) == ["files-shared"]


def test_one_content_under_two_identities_is_named_as_people_call_them(tmp_path: Path) -> None:
    a = picture(tmp_path / "0.png", 0)
    twin = str(shutil.copy(a, tmp_path / "1.png"))
    contents, names = contents_of(a, twin), LabelNames({3: "anna", 4: "bert"})
    (found,) = check_contents(None, [(a, 3, 0)], [(twin, 4, 1)], contents, names)[:1]
    assert found.message == f"1 test pictures have several identities: {a} (identity anna) = {twin} (identity bert)"
    (found,) = check_labels_of_contents([(a, "x_1", "c"), (twin, "x_2", "c")], contents)
    assert (found.level, found.code) == ("warning", "content-of-two-identities")
    assert not [*check_labels_of_contents([(a, "x_1", "c"), (twin, "x_1", "d")], contents)]
