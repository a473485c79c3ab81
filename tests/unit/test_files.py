"""A final name holds a complete file or what it held before; so does a folder of files that belong together."""

import json
import os

import pytest

from switchablecompat import files
from switchablecompat.errors import InputError
from switchablecompat.files import atomic_folder, atomic_write, refuse_unwritable, refuse_unwritable_file, write_json


def test_writes_the_file_and_leaves_nothing_else(tmp_path):
    target = tmp_path / "new folder" / "grid.json"
    with atomic_write(target) as temporary:
        assert temporary.parent == target.parent  # else the rename could cross file systems
        assert temporary.suffix == ".json"
        temporary.write_text("new")
        assert not target.exists()
    assert [path.name for path in target.parent.iterdir()] == ["grid.json"]
    assert target.read_text() == "new"


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_exception_leaves_the_old_file_untouched(tmp_path, error):
    target = tmp_path / "grid.json"
    target.write_text("old")
    with pytest.raises(error), atomic_write(target) as temporary:  # noqa: PT012
        temporary.write_text("half")
        raise error
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_an_exception_before_anything_was_written(tmp_path):
    with pytest.raises(RuntimeError), atomic_write(tmp_path / "a.txt"):
        raise RuntimeError
    assert not list(tmp_path.iterdir())


def test_a_block_that_writes_nothing_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError), atomic_write(tmp_path / "a.txt"):
        pass


def test_a_folder_in_the_way_is_an_error_and_stays(tmp_path):
    (tmp_path / "grid.json").mkdir()
    with pytest.raises(OSError, match=r"grid\.json"), atomic_write(tmp_path / "grid.json") as temporary:
        temporary.write_text("new")
    assert [path.name for path in tmp_path.iterdir()] == ["grid.json"]


def test_permissions_are_those_of_an_ordinary_file(tmp_path):
    (tmp_path / "ordinary").write_text("")
    with atomic_write(tmp_path / "atomic") as temporary:
        temporary.write_text("")
    assert (tmp_path / "atomic").stat().st_mode == (tmp_path / "ordinary").stat().st_mode


def test_a_folder_appears_with_all_its_files(tmp_path):
    target = tmp_path / "new" / "w025"
    with atomic_folder(target, last="card") as temporary:
        (temporary / "card").write_text("c")
        (temporary / "model").write_text("m")
        assert not target.exists()
    assert [path.name for path in target.parent.iterdir()] == ["w025"]
    assert {path.name: path.read_text() for path in target.iterdir()} == {"card": "c", "model": "m"}


def test_a_folders_files_are_replaced_and_others_stay(tmp_path):
    for name in ("card", "model", "notes"):
        (tmp_path / name).write_text("old")
    with atomic_folder(tmp_path, last="card") as temporary:
        (temporary / "card").write_text("new")
        (temporary / "model").write_text("new")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        "card": "new",
        "model": "new",
        "notes": "old",
    }


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_exception_leaves_the_old_folder_untouched(tmp_path, error):
    target = tmp_path / "w025"
    target.mkdir()
    (target / "card").write_text("old")
    with pytest.raises(error), atomic_folder(target, last="card") as temporary:  # noqa: PT012
        (temporary / "card").write_text("new")
        raise error
    assert (target / "card").read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_while_files_change_the_one_that_describes_them_is_away(tmp_path, monkeypatch):
    (tmp_path / "card").write_text("old")
    seen = []
    monkeypatch.setattr(
        files.os, "replace", lambda source, target: seen.append((target.name, (tmp_path / "card").exists()))
    )
    with atomic_folder(tmp_path, last="card") as temporary:
        (temporary / "card").write_text("new")
        (temporary / "model").write_text("new")
    assert seen == [("model", False), ("card", False)]


def test_a_folder_without_its_description_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError), atomic_folder(tmp_path / "w025", last="card") as temporary:
        (temporary / "model").touch()
    assert not list(tmp_path.iterdir())


def test_what_is_in_the_way_of_a_folder_or_a_file_is_named_and_nothing_is_made(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "folder", tmp_path / "new" / "folder"):
        refuse_unwritable(path, "--output")
        refuse_unwritable_file(path / "grid.json", "--json")
    refuse_unwritable_file(tmp_path / "file", "--json")  # which may be replaced
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(InputError, match=f"^--output: must be a folder that can be .*, found {tmp_path / 'file'}$"):
            refuse_unwritable(path, "--output")
    with pytest.raises(InputError, match=f"^--json: must be a file that can be written, found {tmp_path / 'file'}$"):
        refuse_unwritable_file(tmp_path / "file" / "grid.json", "--json")
    with pytest.raises(InputError, match=f"^--json: must be a file, not a folder, found {tmp_path / 'folder'}$"):
        refuse_unwritable_file(tmp_path / "folder", "--json")
    assert {path.name for path in tmp_path.rglob("*")} == {"file", "folder"}


@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_to_write(tmp_path):
    (tmp_path / "locked").mkdir(mode=0o500)
    with pytest.raises(InputError, match="locked$"):
        refuse_unwritable(tmp_path / "locked" / "new", "--output")


def test_json_reads_back_and_what_is_no_json_leaves_no_file(tmp_path):
    content = {"name": "Zürich", "values": [1, 0.1, None]}
    assert json.loads(write_json(tmp_path / "a.json", content).read_text(encoding="utf-8")) == content
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "b.json", {"value": float("nan")})
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
