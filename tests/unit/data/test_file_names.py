"""Names of files in which FastReID's patterns cut something off: one line that names the file and the way out."""

from pathlib import Path

import pytest
from fastreid.data.datasets import DATASET_REGISTRY

import layouts
from switchablecompat.data.check import check_test, check_train
from switchablecompat.data.opening import open_dataset
from switchablecompat.errors import InputError

MARKET, DUKE = "Market-1501-v15.09.15", "DukeMTMC-reID"


def duke(root: Path) -> None:
    layouts.market1501(root)
    (root / MARKET).rename(root / DUKE)


@pytest.mark.parametrize(
    ("layout", "name", "file", "says"),
    [
        (layouts.market1501, "Market1501", f"{MARKET}/query/0001_c13s1_0.jpg", "identity 1 and camera 13"),
        (layouts.market1501, "Market1501", f"{MARKET}/query/0001_c10s1_0.jpg", "identity 1 and camera 10"),
        (layouts.market1501, "Market1501", f"{MARKET}/bounding_box_train/0002_c61s1_0.jpg", "identity 2 and camera 61"),
        (layouts.market1501, "Market1501", f"{MARKET}/bounding_box_test/0003_c012_9.jpg", None),
        (duke, "DukeMTMC", f"{DUKE}/bounding_box_test/0003_c12_f0.jpg", "identity 3 and camera 12"),
        (layouts.veri, "VeRi", "veri/image_test/0002_c0123_9.jpg", "identity 2 and camera 123"),
        (layouts.veri, "VeRi", "veri/image_test/-1_c003_9.jpg", "identity -1 and camera 3"),
    ],
)
def test_what_the_pattern_cuts_off_is_refused(tmp_path: Path, layout, name: str, file: str, says: str | None) -> None:
    layout(tmp_path)
    open_dataset(name, str(tmp_path), "")
    layouts.pictures(tmp_path, [file])
    with pytest.raises(InputError) as error:
        open_dataset(name, str(tmp_path), "")
    assert Path(file).name in str(error.value)
    if says:  # else FastReID's own assertion comes first (camera 0)
        assert f"class {name}; list the images in a manifest" in str(error.value)
        assert str(error.value).endswith(f"found a name that says {says}")


def test_fastreid_itself_takes_camera_13_for_camera_1(tmp_path: Path) -> None:
    """The reason for all this: without a word."""
    layouts.market1501(tmp_path)
    layouts.pictures(tmp_path, [f"{MARKET}/query/0001_c13s1_7.jpg"])
    items = DATASET_REGISTRY.get("Market1501")(root=str(tmp_path)).query
    assert [item[1:] for item in items if "c13" in item[0]] == [(1, 0)]


def test_a_folder_that_looks_like_a_file_name_labels_nothing(tmp_path: Path) -> None:
    root = tmp_path / "run12_c3_test"
    layouts.market1501(root)
    with pytest.raises(InputError, match="is read as identity 12 and camera 3 by FastReID's class Market1501"):
        open_dataset("Market1501", str(root), "")


def test_sound_names_are_read_as_they_say(tmp_path: Path) -> None:
    layouts.market1501(tmp_path)
    names = ["-1_c5s1_0.jpg", "0000_c6s1.jpg", "0003_c4s1.jpg"]
    layouts.pictures(tmp_path / MARKET / "bounding_box_test", names)
    _, splits = open_dataset("Market1501", str(tmp_path), "", combine_all=True)
    assert len(splits["gallery"]) == 14  # background stays, junk goes
    assert ("market1501_test_3", "market1501_test_3") in {item[1:] for item in splits["train"]}


def test_junk_of_a_class_that_keeps_it_is_a_finding(tmp_path: Path) -> None:
    items = [(str(tmp_path / f"{n}.jpg"), pid, n % 2) for n, pid in enumerate([-1, -1, 5, 5, 6, 6])]
    for path, *_ in items:
        Path(path).touch()
    found = check_test(items[:3], items[3:])
    assert [one.message.partition(":")[0] for one in found if one.code == "junk-in-test"] == [
        "2 test images have the identity -1, which would count as a person"
    ]
    train = [(path, f"veri_{pid}", f"veri_{camid}") for path, pid, camid in items]
    assert "junk-in-training" in [one.code for one in check_train(train)]
