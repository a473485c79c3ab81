"""Which files below a folder are images: links are followed, hidden names are not, and what is left out is said."""

import os
from pathlib import Path

import pytest

from switchablecompat.deploy.image_list import items_of_paths, list_images
from switchablecompat.errors import InputError


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def listed(folder: Path) -> list[str]:
    return [str(path.relative_to(folder)) for path in list_images(folder)]


def test_linked_folders_and_files_are_followed(tmp_path: Path) -> None:
    touch(tmp_path / "elsewhere", "deep/1.jpg", "2.png")
    touch(tmp_path / "images", "0.jpg")
    (tmp_path / "images" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "images" / "file.jpg").symlink_to(tmp_path / "elsewhere" / "2.png")
    assert listed(tmp_path / "images") == ["0.jpg", "file.jpg", "linked/2.png", "linked/deep/1.jpg"]
    (tmp_path / "all").symlink_to("images")
    assert listed(tmp_path / "all") == listed(tmp_path / "images")


def test_loops_and_second_links_end(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    touch(tmp_path, "a/b/1.jpg", "z/2.jpg")
    (tmp_path / "a" / "b" / "up").symlink_to(tmp_path)
    (tmp_path / "a" / "self").symlink_to(".")
    (tmp_path / "a" / "link").symlink_to(tmp_path / "z")
    assert listed(tmp_path) == ["a/b/1.jpg", "z/2.jpg"]  # by its own name rather than by the link's
    assert f"{tmp_path}: 2 images; left out: 3 folders that are linked again" in caplog.text


def test_hidden_names_are_left_out_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    touch(tmp_path, "1.jpg", "._1.jpg", ".thumbs/1.jpg", ".thumbs/2.jpg", ".ipynb_checkpoints/1-checkpoint.jpg",
          "sub/.DS_Store", "sub/2.JPG", "labels.csv", "3.gif", "__MACOSX/._1.jpg")  # fmt: skip
    (tmp_path / "lost.png").symlink_to("nothing.png")
    (tmp_path / "folder.jpg").mkdir()
    assert listed(tmp_path) == ["1.jpg", "sub/2.JPG"]
    line = "2 images; left out: 2 files of other suffixes, 1 links to nothing, 5 names that begin with a dot"
    assert line in caplog.text


def test_nothing_is_said_where_nothing_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    touch(tmp_path, "1.jpg", "a/2.jpg")
    assert len(list_images(tmp_path)) == 2
    assert caplog.text == ""


def test_a_hidden_folder_that_is_named_is_taken(tmp_path: Path) -> None:
    touch(tmp_path / ".cache", "images/1.jpg")
    assert listed(tmp_path / ".cache") == ["images/1.jpg"]
    assert [item.path for item in items_of_paths([tmp_path / ".cache/images/1.jpg"])]


def test_a_file_that_is_given_again_is_taken_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    touch(tmp_path, "a/1.jpg", "a/2.jpg", "b/3.jpg")
    (tmp_path / "b" / "2.jpg").symlink_to(tmp_path / "a" / "2.jpg")
    (tmp_path / "c").symlink_to("a")
    os.link(tmp_path / "a" / "1.jpg", tmp_path / "b" / "copy.jpg")  # one picture under two names of equal rank stays
    given = [tmp_path / "a", tmp_path / "a" / ".." / "a" / "1.jpg", tmp_path / "b", tmp_path / "c"]
    names = [str(Path(item.path).relative_to(tmp_path)) for item in items_of_paths(given)]
    assert names == ["a/1.jpg", "a/2.jpg", "b/3.jpg", "b/copy.jpg"]
    assert [record.getMessage() for record in caplog.records] == [
        "4 images; left out: 4 that are given again, under the same name or a link's"
    ]


def test_a_folder_of_hidden_images_alone_is_refused_with_the_reason(tmp_path: Path) -> None:
    touch(tmp_path, ".1.jpg", "notes.txt")
    with pytest.raises(InputError, match="must hold images .*found 1 files of other suffixes, 1 names that begin with"):
        list_images(tmp_path)


def test_names_that_are_not_utf8_are_refused_before_anything_is_encoded(tmp_path: Path) -> None:
    touch(tmp_path, "1.jpg", "ä人.jpg")
    assert len(items_of_paths([tmp_path])) == 2
    touch(tmp_path, os.fsdecode(b"\xff.jpg"))
    with pytest.raises(InputError, match=r"names of images: must be UTF-8.*found .*\\udcff.jpg'") as error:
        items_of_paths([tmp_path])
    str(error.value).encode("ascii", "strict")
