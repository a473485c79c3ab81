"""Files by their paths: the same file has one name however it is spelt, and other files have others."""

import os
from pathlib import Path

import pytest

from switchablecompat.data.paths import missing_files, real_paths, unwritable_names


@pytest.fixture
def spellings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[list[str], str]:
    """Nine ways to one file (through folders, links of three kinds, from here), and another of the same name."""
    for folder in ("data", "other"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "1.jpg").write_text(folder)
    (tmp_path / "link").symlink_to("data")
    (tmp_path / "chain").symlink_to(tmp_path / "link")
    (tmp_path / "data" / "soft.jpg").symlink_to("1.jpg")
    os.link(tmp_path / "data" / "1.jpg", tmp_path / "data" / "hard.jpg")
    os.link(tmp_path / "data" / "1.jpg", tmp_path / "other" / "0.jpg")
    monkeypatch.chdir(tmp_path)
    names = ["data/1.jpg", "./data/1.jpg", "other/../data/1.jpg", f"{tmp_path}/data/1.jpg", "link/1.jpg", "chain/1.jpg",
             "data/soft.jpg", "data/hard.jpg", "other/0.jpg"]  # fmt: skip
    return names, "other/1.jpg"


def test_one_file_has_one_name(spellings) -> None:
    names, other = spellings
    real = real_paths([*names, other])
    assert len({real[name] for name in names}) == 1
    assert real[other] == os.path.abspath(other)
    assert all(os.path.samefile(name, path) and os.path.isabs(path) for name, path in real.items())


@pytest.mark.parametrize("count", range(7))
def test_the_name_does_not_depend_on_what_else_is_asked_for_but_for_hard_links(spellings, count: int) -> None:
    names, _ = spellings
    assert real_paths([names[count]]) == {names[count]: os.path.realpath(names[0])}


def test_what_is_not_there_has_a_name_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "lost.jpg").symlink_to("nothing.jpg")
    real = real_paths([f"{tmp_path}/a.jpg", f"{tmp_path}/no/b.jpg", f"{tmp_path}/lost.jpg"])
    assert list(real.values()) == [f"{tmp_path}/{name}" for name in ("a.jpg", "no/b.jpg", "nothing.jpg")]


def test_a_link_to_nothing_and_a_folder_are_no_files(tmp_path: Path) -> None:
    (tmp_path / "lost.jpg").symlink_to("nothing.jpg")
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "1.jpg").touch()
    names = [f"{tmp_path}/{name}" for name in ("lost.jpg", "folder.jpg", "1.jpg")]
    assert missing_files(names) == names[:2]


def test_names_that_no_file_can_hold() -> None:
    assert unwritable_names(["a/ä人.jpg", os.fsdecode(b"a/\xff.jpg")]) == [r"'a/\udcff.jpg'"]
