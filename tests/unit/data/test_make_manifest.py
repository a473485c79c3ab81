"""tools/make_manifest.py: folders and a pattern become a manifest, or one clear error."""

import csv
import hashlib
import os
import re
import shlex
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from PIL import Image

from switchablecompat.cli import manifest
from switchablecompat.cli.parsers import COMMANDS
from switchablecompat.cli.parsers.shared import Parser
from switchablecompat.data.manifest import ManifestReID, Row, read_manifest
from switchablecompat.errors import InputError

PATTERN = r"(?P<pid>\d+)_c(?P<camid>\d+)"
SPLIT = ("--test-share", 0.5, "--query", "one-per-camera")
Make = Callable[..., list[Row]]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Run the command on ``tmp_path/images``, or other folders, and read what it wrote."""

    def run(*arguments: object, output: Path = tmp_path / "manifest.csv") -> list[Row]:
        folders = () if arguments and Path(str(arguments[0])).is_absolute() else (tmp_path / "images",)
        line = [*map(str, (*folders, *arguments, "--output", output))]
        manifest.main(Parser(COMMANDS["manifest"]).read(line))
        return read_manifest(output)

    return run


def pictures(folder: Path, names: Iterable[str]) -> None:
    """Small pictures of these names."""
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 8), (number % 256, 0, 0)).save(path)


def shots(identities: int, cameras: int = 2, shots: int = 2) -> list[str]:
    """Names in Market-1501's manner."""
    return [f"{p:04d}_c{c}_{s}.png" for p in range(identities) for c in range(1, cameras + 1) for s in range(shots)]


def of(rows: list[Row], split: str) -> list[Row]:
    return [row for row in rows if row.split == split]


def identities(rows: list[Row], *splits: str) -> set[str]:
    return {row.pid for row in rows if row.split in splits}


def test_held_out_identities(make: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pictures(tmp_path / "images", [*shots(10), "readme_scan.png"])
    rows = make("--pattern", PATTERN, "--test-share", 0.3, "--query", "one-per-camera")
    train, tested = identities(rows, "train"), identities(rows, "query", "gallery")
    assert (len(train), len(tested), train & tested) == (7, 3, set())
    assert {row.camid for row in rows} == {"1", "2"}
    for row in rows:  # path, identity and camera tell the same story
        assert Path(row.path).name.startswith(f"{row.pid}_c{row.camid}_")
        if row.pid in tested:
            assert row.split == ("query" if row.path.endswith("_0.png") else "gallery")
    told = capsys.readouterr().out
    assert "1 images did not match: " in told
    assert "readme_scan.png" in told
    assert [line.split() for line in told.splitlines()[2:5]] == [
        ["train", "28", "7", "2"], ["query", "6", "3", "2"], ["gallery", "6", "3", "2"],
    ]  # fmt: skip
    data = ManifestReID(manifest=str(tmp_path / "manifest.csv"))
    assert [len(data.train), len(data.query), len(data.gallery)] == [28, 6, 6]


def test_equal_arguments_give_an_equal_file_and_seeds_other_draws(make: Make, tmp_path: Path) -> None:
    pictures(tmp_path / "images", shots(12))
    draws = {}
    for seed in range(4):
        rows = make("--pattern", PATTERN, *SPLIT, "--seed", seed)
        content = (tmp_path / "manifest.csv").read_bytes()
        make("--pattern", PATTERN, *SPLIT, "--seed", seed)
        assert (tmp_path / "manifest.csv").read_bytes() == content
        draws[seed] = frozenset(identities(rows, "train"))
    assert len({*draws.values()}) > 1
    # Published splits are known by their seed, so the draw may never change: the lowest digests are for the test.
    lots = sorted((hashlib.sha256(f"0/{number:04d}".encode()).hexdigest(), f"{number:04d}") for number in range(12))
    assert draws[0] == {pid for _, pid in lots[6:]}


@pytest.mark.parametrize("count", [3, 4, 5, 7])
def test_types_are_divided_alike(make: Make, tmp_path: Path, count: int) -> None:
    types = {"car": count, "bus": 3, "van": 5}
    pictures(tmp_path / "images", [f"{t}_{n}_c{c}.png" for t, k in types.items() for n in range(k) for c in (1, 2)])
    pattern = r"(?P<pid>(?P<type>car|bus|van)_\d+)_c(?P<camid>\d)"
    rows = make("--pattern", pattern, "--test-share", 0.5, "--query", "camid=1")
    tested = Counter(pid.split("_")[0] for pid in identities(rows, "query"))
    assert all(abs(tested[name] - size / 2) <= 1 for name, size in types.items())
    assert abs(tested.total() - sum(types.values()) / 2) <= 0.5


def test_a_camera_of_several_parts_and_several_folders(make: Make, tmp_path: Path) -> None:
    for day in ("day1", "day2"):
        pictures(tmp_path / day, [f"s{s}/{p}/{c}.png" for s in (1, 2) for p in "abcd" for c in (1, 2)])
    pattern = r"s(?P<camid>\d)/(?P<pid>\w)/(?P<camid2>\d)"
    rows = make(tmp_path / "day1", tmp_path / "day2", "--pattern", pattern, "--test", "pid=a,b", "--query", 3)
    assert {row.camid for row in rows} == {"1_1", "1_2", "2_1", "2_2"}
    assert identities(rows, "train") == {"c", "d"}
    assert Counter(row.pid for row in of(rows, "query")) == {"a": 3, "b": 3}, "the first three of each identity"
    assert [Path(row.path).relative_to(tmp_path).as_posix() for row in of(rows, "query") if row.pid == "a"] == [
        "day1/s1/a/1.png", "day1/s1/a/2.png", "day1/s2/a/1.png",
    ]  # fmt: skip
    assert len(make(tmp_path / "day1", tmp_path, "--pattern", pattern, "--test", "pid=a", "--query", 3)) == 32


def test_the_pattern_says_the_split_by_its_text_or_by_the_group_that_matches(make: Make, tmp_path: Path) -> None:
    market = {"bounding_box_train": (1, 2), "query": (3, 4), "bounding_box_test": (3, 4, 5)}
    names = [f"{folder}/{p}_c{c}.png" for folder, pids in market.items() for p in pids for c in (1, 2)]
    pictures(tmp_path / "images", names)
    groups = "((?P<train>bounding_box_train)|(?P<query>query)|(?P<gallery>bounding_box_test))/"
    rows = make("--pattern", groups + PATTERN)
    assert (identities(rows, "train"), identities(rows, "query")) == ({"1", "2"}, {"3", "4"})
    assert identities(rows, "gallery") == {"3", "4", "5"}

    pictures(
        tmp_path / "named", [f"{split}/{p}_c{c}.png" for split in ("train", "test") for p in split for c in (1, 2)]
    )
    pattern = r"(?P<split>train|test)/(?P<pid>\w)_c(?P<camid>\d)"
    with pytest.raises(InputError, match=r"split: 1 identities are in training and in test, found t"):
        make(tmp_path / "named", "--pattern", pattern, "--query", "camid=1")
    exclude = ("--exclude", "(^|/)t_", "--exclude", "train/s", "--exclude", "train/e")
    rows = make(tmp_path / "named", "--pattern", pattern, "--query", "camid=2", *exclude)
    assert {row.camid for row in of(rows, "query")} == {"2"}
    rows = make(tmp_path / "named", "--pattern", pattern, "--query", "camid=2", "--only", "test")
    assert {row.split for row in rows} == {"query", "gallery"}
    assert {row.split for row in make(tmp_path / "named", "--pattern", pattern, "--only", "train")} == {"train"}


def test_whole_groups_are_drawn_or_named_in_a_file(make: Make, tmp_path: Path) -> None:
    pictures(tmp_path / "images", [f"{a}/k{k}/{d}.png" for a in "ABCDEF" for k in (1, 2, 3) for d in (1, 2, 3)])
    pattern = r"(?P<pid>(?P<alphabet>\w)/k\d)/(?P<camid>\d)"
    rows = make("--pattern", pattern, "--test-share", 0.5, "--draw-by", "alphabet", "--query", "camid=1,2")
    sides = [{pid[0] for pid in identities(rows, *splits)} for splits in (("train",), ("query", "gallery"))]
    assert [len(side) for side in sides] == [3, 3]
    assert not sides[0] & sides[1]
    (tmp_path / "test.txt").write_text("B\n\nD\n")
    rows = make("--pattern", pattern, "--test", f"alphabet=@{tmp_path / 'test.txt'}", "--query", "camid=1,2")
    assert {pid[0] for pid in identities(rows, "query")} == {"B", "D"}
    assert {row.camid for row in of(rows, "gallery")} == {"3"}


def test_without_cameras_and_with_odd_names(make: Make, tmp_path: Path) -> None:
    names = [f'{c}/a, "b" {n}.jpg' for c in ("x y", "ü,z") for n in range(3)] + [" lead/1.jpg", " lead/2.JPG"]
    pictures(tmp_path / "images", names)
    (tmp_path / "images" / "x y" / "._a0.jpg").write_bytes(b"not an image: a hidden file")
    (tmp_path / "images" / "notes.txt").write_text("not an image")
    (tmp_path / "images" / "loop").symlink_to(tmp_path / "images")
    (tmp_path / "elsewhere").mkdir()
    os.replace(tmp_path / "images" / "ü,z", tmp_path / "elsewhere" / "ü,z")
    (tmp_path / "images" / "linked").symlink_to(tmp_path / "elsewhere")
    output = tmp_path / "images" / "manifest.csv"
    rows = make("--pattern", r"(?P<pid>[^/]+)/[^/]+$", "--test", "pid=x y", "--query", 1, output=output)
    assert (len(rows), {row.camid for row in rows}) == (8, {""})
    assert identities(rows, "train") == {"ü,z", "lead"}
    with output.open(newline="", encoding="utf-8") as file:
        paths = [row["path"] for row in csv.DictReader(file)]
    assert not any(path.startswith("/") for path in paths)


BAD = [
    (("--pattern", "(?P<pid>"), r"--pattern: must be a regular expression \(.*\), found '\(\?P<pid>'"),
    (("--pattern", r"(\d+)", *SPLIT), r"--pattern: must have a group \(\?P<pid>...\), the identity"),
    (
        ("--pattern", "(?P<pid>x{9})", *SPLIT),
        "--pattern: must match paths below the folder, found 8 images that do not",
    ),
    (("--pattern", r"\d(?P<pid>x?)", *SPLIT), "0000_c1_0.png: must have an identity: the pattern's group pid is empty"),
    (("--pattern", PATTERN), "--test-share or --test: must be given where the pattern has no group split"),
    (("--pattern", PATTERN, "--test-share", 0.5), "--query: must say which test images are queries"),
    (("--pattern", PATTERN, "--test-share", 1.5, "--query", 1), r"--test-share: must be between 0 and 1 .*, found 1.5"),
    (("--pattern", PATTERN, "--test-share", "nan", "--query", 1), r"--test-share: must be between 0 and 1"),
    (
        ("--pattern", PATTERN, "--test-share", 0.1, "--query", 1),
        r"--test-share: must leave some .*, found 0 of 2 for the test",
    ),
    (
        ("--pattern", PATTERN, "--test-share", 0.9, "--query", 1),
        r"--test-share: must leave some .*, found 2 of 2 for the test",
    ),
    (("--pattern", PATTERN, "--test-share", 0.5, "--query", 4), r"split: gallery must not be empty"),
    (("--pattern", PATTERN, "--test", "pid", "--query", 1), r"--test: must be GROUP=VALUE,VALUE... or GROUP=@FILE"),
    (
        ("--pattern", PATTERN, "--test", "pid=9", "--query", 1),
        r"--test: must name values of pid that occur, .* found 9",
    ),
    (
        ("--pattern", PATTERN, "--test", "age=9", "--query", 1),
        r"--test: must name a group .*\['camid', 'pid'\], found 'age'",
    ),
    (("--pattern", PATTERN, "--test", "pid=@none.txt", "--query", 1), "none.txt: must be a readable text file"),
    (
        ("--pattern", PATTERN, "--test-share", 0.5, "--query", "camid=01"),
        "--query: must name values of camid that occur",
    ),
    (
        ("--pattern", PATTERN, "--test-share", 0.5, "--query", 0),
        "--query: must be GROUP=VALUES, a number from 1 or one",
    ),
    (("--pattern", PATTERN, "--test-share", 0.5, "--query", "some"), "--query: must be GROUP=VALUES, a number from 1"),
    (("--pattern", r"(?P<pid>\d+)", *SPLIT), "--query: needs a group camid in the pattern, found one-per-camera"),
    (("--pattern", PATTERN, "--only", "train", *SPLIT), "--test-share or --test: is not read with --only train"),
    (("--pattern", PATTERN, "--only", "train", "--query", 1), "--query: is not read: there are no test images"),
    (("--pattern", PATTERN, "--seed", 3, "--test", "pid=0001", "--query", 1), "--seed: is read with --test-share only"),
    (("--pattern", PATTERN, *SPLIT, "--draw-by", "site"), "--draw-by: must be a group that every image has"),
    (("--pattern", PATTERN, *SPLIT, "--test", "pid=0001"), "command line: argument --test: not allowed with argument"),
    (("--pattern", r"(?P<split>\d+)_(?P<pid>\w+)"), "0000_c1_0.png: must be of one split, train, test, query, gallery"),
    (("--pattern", r"(?P<train>0000_)?(?P<pid>\w+)"), "0001_c1_0.png: must have a split, as other images have"),
    (
        ("--pattern", r"(?P<train>000)(?P<pid>\w+)", *SPLIT),
        "--test-share or --test: is not read where the pattern says",
    ),
    (
        ("--pattern", r"(?P<pid>\d+)_c(?P<camid>2)?", *SPLIT),
        "--pattern: camid: must be found in every image or in none",
    ),
    (("--pattern", r"(?P<pid>\d+)_c(?P<type>\d)", *SPLIT), "--pattern: type: must be one for each pid; let the group"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD, ids=[str(number) for number in range(len(BAD))])
def test_bad_input_is_one_line_and_leaves_nothing(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    pictures(tmp_path / "images", shots(2))
    with pytest.raises(InputError, match=message) as error:
        make(*arguments)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "manifest.csv").exists()


@pytest.mark.parametrize("folder", ["absent", "empty"])
def test_folders_without_images(make: Make, tmp_path: Path, folder: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=f"{folder}: must (be an existing folder of|hold) images"):
        make(tmp_path / folder, "--pattern", PATTERN, *SPLIT)


def test_an_output_that_cannot_be_written(make: Make, tmp_path: Path) -> None:
    pictures(tmp_path / "images", shots(4))
    with pytest.raises(InputError, match="--output: must be a file, not a folder"):
        make("--pattern", PATTERN, *SPLIT, output=tmp_path)


PAGE = Path(__file__).parents[3] / "docs" / "datasets.md"
RECIPES = [line.split(" ", 2)[2] for line in PAGE.read_text().splitlines() if line.startswith("python tools/make_man")]
LAYOUTS = {  # what the downloads look like, and of each set what its owner meant to be left out
    "my_images": shots(4),
    "datasets/pku/data": [
        *(f"train/{p:03}/{c:02}_{s}.png" for p in range(5) for c in (1, 2) for s in (1, 2)),
        *(f"val/all_imgs/{p:03}/{c:02}_{s}.png" for p in range(5, 8) for c in (1, 2) for s in (1, 2)),
        *(f"val/{side}/{p:03}/{c:02}_1.png" for side in ("query", "gallery") for p in range(5, 8) for c in (1, 2)),
    ],
    "datasets/vehicle/images": [
        f"{side}/{kind}_{number:04}_cam{c}.jpg"
        for side, numbers in (("train", (1, 2)), ("test", (3, 4)))
        for kind in ("car", "motorcycle", "truck", "bus")
        for number in numbers
        for c in (1, 2)
    ],
    "datasets/omniglot": [
        f"images_background_small{1 + (a > 'C')}/{a}_(x)/character{k:02}/00{k}_{d:02}.png"
        for a in "ABCDEF"
        for k in (1, 2)
        for d in range(1, 7)
    ],
    "datasets/grocery/dataset": [
        *(
            f"{part}/Fruit/{c}/{c}/{c}_{n}.jpg"
            for part in ("train", "val", "test")
            for c in ("Kiwi", "Lime")
            for n in (1, 2)
        ),
        *(f"{part}/Packages/Milk/{c}/{c}_1.jpg" for part in ("train", "val", "test") for c in ("Oat-Milk", "Soy-Milk")),
        "iconic-images-and-descriptions/Fruit/Kiwi/Kiwi_Iconic.jpg",
    ],
}


@pytest.mark.parametrize("command", RECIPES)
def test_the_recipes_fit_the_folders_that_they_are_for(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    monkeypatch.chdir(tmp_path)
    folder, *options = shlex.split(command)
    pictures(tmp_path / folder, LAYOUTS[folder])
    if "grocery" in folder:
        (tmp_path / "datasets/grocery/test_classes.txt").write_text("Oat-Milk\nSoy-Milk\n")
    at = options.index("--output")
    rows = make(tmp_path / folder, *options[:at], output=tmp_path / options[at + 1])
    meant = [name for name in LAYOUTS[folder] if not re.search("val/query|val/gallery|iconic", name)]
    assert len(rows) == len(meant)
    assert "did not match" not in capsys.readouterr().out
    train, tested = identities(rows, "train"), identities(rows, "gallery")
    assert identities(rows, "query") == tested
    assert abs(len(train) - len(tested)) <= 4
    if "grocery" not in folder:
        assert all(row.camid for row in rows)


def test_there_is_a_recipe_for_each_set() -> None:
    assert {shlex.split(command)[0] for command in RECIPES} == {*LAYOUTS}
