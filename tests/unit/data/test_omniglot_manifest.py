"""The Omniglot tool on a tiny archive of the same layout: splits, pictures, safety, repeatability."""

from __future__ import annotations

import csv
import importlib.util
import io
import zipfile
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from switchablecompat.data.check import check_images, check_items
from switchablecompat.data.manifest import ManifestReID
from switchablecompat.errors import InputError

TOOL = Path(__file__).parents[3] / "tools" / "make_omniglot_manifest.py"
ALPHABETS, CHARACTERS, DRAWERS = ("Greek", "Japanese_(hiragana)", "Latin"), 2, 5


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    """The tool as a module."""
    spec = importlib.util.spec_from_file_location(TOOL.stem, TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def drawing(seed: int) -> Image.Image:
    """A one-bit picture like Omniglot's."""
    return Image.fromarray(np.random.default_rng(seed).random((21, 21)) > 0.1)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Three alphabets of two characters by five drawers, with the folder entries of the real archive."""
    path, number = tmp_path / "omniglot.zip", 0
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("images_background/", b"")
        for alphabet in ALPHABETS:
            for character in range(1, CHARACTERS + 1):
                for drawer in range(1, DRAWERS + 1):
                    number += 1
                    name = f"images_background/{alphabet}/character{character:02d}/{number:04d}_{drawer:02d}.png"
                    file.writestr(name, encoded(drawing(number)))
    return path


def encoded(image: Image.Image) -> bytes:
    """The picture as PNG bytes."""
    buffer = io.BytesIO()
    image.save(buffer, "png")
    return buffer.getvalue()


def run(tool: ModuleType, monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """Run the command in this process."""
    monkeypatch.setattr("sys.argv", ["tool", *map(str, arguments)])
    return tool.main()


def rows(folder: Path) -> list[dict[str, str]]:
    """The rows of the manifest in ``folder``."""
    with open(folder / "manifest.csv", newline="") as file:
        return list(csv.DictReader(file))


def members(output: Sequence[dict[str, str]], split: str, column: str) -> set[str]:
    """The values of one column in one split."""
    return {row[column] for row in output if row["split"] == split}


def test_splits(tool: ModuleType, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    assert run(tool, monkeypatch, archive, out, "--test-alphabets", 1, "--query-drawers", 2) == 0
    found = rows(out)
    assert len(found) == len(ALPHABETS) * CHARACTERS * DRAWERS
    alphabets = {split: {pid.split("/")[0] for pid in members(found, split, "pid")} for split in ("train", "query")}
    assert len(alphabets["train"]) == 2
    assert alphabets["train"] | alphabets["query"] == set(ALPHABETS)
    assert members(found, "query", "pid") == members(found, "gallery", "pid")
    assert len(members(found, "query", "camid")) == 2
    assert len(members(found, "gallery", "camid")) == 3
    assert not members(found, "query", "camid") & members(found, "gallery", "camid")
    for row in found:  # path, identity and drawer tell the same story
        assert row["path"].startswith(f"images/{row['pid']}/")
        assert row["path"].endswith(f"_{row['camid']}.png")


def test_fastreid_and_the_check_accept_it(
    tool: ModuleType, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "deep" / "out"
    run(tool, monkeypatch, archive, out, "--test-alphabets", 1)
    data = ManifestReID(manifest=str(out / "manifest.csv"))
    assert [len(data.train), len(data.query), len(data.gallery)] == [20, 4, 6]
    found = check_items(data.train, data.query, data.gallery, train_prefix="manifest", max_rank=6)
    assert found == []
    paths = [item[0] for item in data.train + data.query + data.gallery]
    assert check_images(paths) == []
    for path in paths:
        with Image.open(path) as image:
            assert image.mode == "RGB"
            expected = np.asarray(drawing(int(Path(path).name[:4]))) * np.uint8(255)
            assert np.array_equal(np.asarray(image), np.repeat(expected[..., None], 3, axis=2))


def test_seed_decides_the_split(tool: ModuleType, archive: Path) -> None:
    with zipfile.ZipFile(archive) as file:
        drawings = tool.list_drawings(file)
    splits = [tool.assign_splits(drawings, 1, 2, seed) for seed in range(8)]
    assert splits == [tool.assign_splits(drawings[::-1], 1, 2, seed)[::-1] for seed in range(8)]
    assert len({tuple(row.split for row in one) for one in splits}) > 1


@pytest.mark.parametrize(
    "name", ["../evil.png", "images/../../evil.png", "/etc/evil.png", "C:/evil.png", "images\\..\\evil.png"]
)
def test_refuses_names_that_lead_outside(
    tool: ModuleType, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    with zipfile.ZipFile(archive, "a") as file:
        file.writestr(name, b"")
    with pytest.raises(InputError, match="names in the archive must stay inside it"):
        run(tool, monkeypatch, archive, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == [archive.name]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--test-alphabets", 3], "--test-alphabets: must be between 1 and 2 for this archive, found 3"),
        (["--query-drawers", 0], "--query-drawers: must be between 1 and 4 for this archive, found 0"),
        (["--colour", "red"], "command line: unrecognized arguments: --colour red"),
    ],
)
def test_bad_options(
    tool: ModuleType, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        run(tool, monkeypatch, archive, tmp_path / "out", *arguments)


def test_bad_archives_leave_nothing_behind(
    tool: ModuleType, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, text, empty = tmp_path / "out", tmp_path / "text.zip", tmp_path / "empty.zip"
    text.write_text("no archive")
    zipfile.ZipFile(empty, "w").close()
    with zipfile.ZipFile(archive, "a") as file:  # sorts last: the good pictures are written before
        file.writestr("images_background/Latin/character99/9999_05.png", b"no picture")
    for path, message in (
        (tmp_path / "lost.zip", r"lost\.zip: must be a readable zip file"),
        (text, "must be a readable zip file"),
        (empty, r"must have pictures named images_\*/<alphabet>"),
        (archive, r"character99/9999_05\.png: must be a readable picture"),
    ):
        with pytest.raises(InputError, match=message):
            run(tool, monkeypatch, path, out)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty.zip", "omniglot.zip", "text.zip"]


def test_keeps_what_is_there(tool: ModuleType, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty").mkdir()
    assert run(tool, monkeypatch, archive, tmp_path / "empty") == 0
    before = (tmp_path / "empty" / "manifest.csv").read_bytes()
    with pytest.raises(InputError, match="must be a new or empty folder"):
        run(tool, monkeypatch, archive, tmp_path / "empty", "--seed", 5)
    assert (tmp_path / "empty" / "manifest.csv").read_bytes() == before
