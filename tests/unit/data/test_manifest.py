"""ManifestReID: a CSV becomes items that FastReID's own loader and evaluator accept, or one clear error."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import switchablecompat  # noqa: F401  makes FastReID importable

# isort: split
from fastreid.data.build import fast_batch_collator
from fastreid.data.common import CommDataset
from fastreid.data.datasets import DATASET_REGISTRY
from fastreid.data.transforms import ToTensor
from fastreid.evaluation.rank import evaluate_rank

from switchablecompat.data.check import check_train
from switchablecompat.data.manifest import ManifestReID, Row, read_manifest, write_manifest
from switchablecompat.data.opening import check_rows, check_test_set, open_dataset
from switchablecompat.errors import InputError

ROWS = """path,pid,camid,split,remark
a/0.png,anna,door,train,
a/1.png,anna,till,train,"blurred, dark"
b/0.png,bert,door,train,
c/0.png,carl,door,query,
c/1.png,carl,till,gallery,
d/0.png,dora,till,gallery,
"""


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """The manifest of ROWS with its pictures: image k is of the one colour k."""
    for number, line in enumerate(ROWS.splitlines()[1:]):
        path = tmp_path / line.split(",")[0]
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (8, 16), (number, number, number)).save(path)
    file = tmp_path / "manifest.csv"
    file.write_text(ROWS)
    return file


def rewritten(manifest: Path, old: str, new: str) -> Path:
    """The manifest with one piece of text replaced."""
    text = manifest.read_text()
    assert old in text
    manifest.write_text(text.replace(old, new))
    return manifest


def test_items_are_numbered_by_sorted_names(manifest: Path) -> None:
    data = DATASET_REGISTRY.get("ManifestReID")(root="nowhere", manifest=str(manifest), unknown_option=1)
    folder = str(manifest.parent)
    assert data.pid_names == ["anna", "bert", "carl", "dora"]
    assert data.camid_names == ["door", "till"]
    assert data.train == [
        (f"{folder}/a/0.png", "manifest_0", "manifest_0"),
        (f"{folder}/a/1.png", "manifest_0", "manifest_1"),
        (f"{folder}/b/0.png", "manifest_1", "manifest_0"),
    ]
    assert data.query == [(f"{folder}/c/0.png", 2, 0)]
    assert data.gallery == [(f"{folder}/c/1.png", 2, 1), (f"{folder}/d/0.png", 3, 1)]
    data.show_train(), data.show_test()


@pytest.mark.parametrize("relabel", [True, False])
def test_fastreid_reads_whole_batches(manifest: Path, relabel: bool) -> None:
    data = ManifestReID(manifest=str(manifest))
    items = data.train if relabel else data.query + data.gallery
    dataset = CommDataset(items, ToTensor(), relabel=relabel)
    batch = fast_batch_collator([dataset[number] for number in range(3)])
    assert batch["targets"].tolist() == ([0, 0, 1] if relabel else [2, 2, 3])
    assert batch["camids"].tolist() == ([0, 1, 0] if relabel else [0, 1, 1])
    assert batch["img_paths"] == [item[0] for item in items]
    colours = torch.arange(3.0) + (0 if relabel else 3)
    assert torch.equal(batch["images"], colours.view(3, 1, 1, 1).expand(3, 3, 16, 8))


@pytest.mark.parametrize("column", ["missing", "empty"])
def test_without_cameras_only_the_query_file_itself_is_left_out(manifest: Path, column: str) -> None:
    lines = [line.split(",")[:4] for line in ROWS.splitlines()] + [["c/0.png", "carl", "", "gallery"]]
    kept = [[path, pid, split] if column == "missing" else [path, pid, "", split] for path, pid, _, split in lines]
    kept[0] = ["path", "pid", "split"] if column == "missing" else ["path", "pid", "camid", "split"]
    manifest.write_text("\n".join(",".join(line) for line in kept))
    data = ManifestReID(manifest=str(manifest))

    assert len(data.camid_names) == 6  # seven rows, but c/0.png is one file
    queries, gallery = np.array([item[1:] for item in data.query]), np.array([item[1:] for item in data.gallery])
    # gallery: carl again, dora, the query's own file as the nearest: FastReID must drop the last, so carl is second
    distances = np.array([[0.5, 0.2, 0.0]])
    cmc, precision, _ = evaluate_rank(
        distances, queries[:, 0], gallery[:, 0], queries[:, 1], gallery[:, 1], use_cython=False
    )
    assert cmc.tolist() == [0.0, 1.0]
    assert precision == [0.5]


def test_relative_to_current_folder_or_root(manifest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(manifest.parent)
    assert ManifestReID(manifest="manifest.csv").query[0][0] == "c/0.png"
    monkeypatch.chdir("/")
    assert ManifestReID(root=str(manifest.parent), manifest="manifest.csv").query == [
        (f"{manifest.parent}/c/0.png", 2, 0)
    ]
    with pytest.raises(InputError, match=r"manifest\.csv: must be a CSV file.*no such file"):
        ManifestReID(manifest="manifest.csv")
    with pytest.raises(InputError, match=r"DATASETS\.MANIFEST: must name a CSV file"):
        ManifestReID()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "path,pid,camid,split",
            "path;pid;camid;split",
            r"\.csv:1: header must have the columns.*path;pid;camid;split",
        ),
        ("path,pid", "path,name", r"\.csv:1: header must have the columns path, pid, camid, split"),
        ("remark", "split", r"\.csv:1: each column may occur once, found \['split'\]"),
        ("b/0.png,bert,door,train", "b/0.png,bert,door,test", r"\.csv:4: split must be one of train, .*'test'"),
        ("b/0.png,bert", "b/0.png, ", r"\.csv:4: pid must not be empty"),
        ("b/0.png,", ",", r"\.csv:4: path must not be empty"),
        ("b/0.png,bert,door", "b/0.png,bert,", r"\.csv:4: camid must be filled in every row.*1 of 6 rows"),
        ("b/0.png,bert,door,train,", "b/0.png,bert,train", r"\.csv:4: must have 5 fields like the header, found 3"),
        ("a/1.png", "a/../a/0.png", r"\.csv:3: a path may occur once in the split train, .*already in line 2"),
        (ROWS[ROWS.index("\n") :], "\n", r"\.csv: must have at least one row below the header, found 0"),
        (ROWS, "", r"\.csv:1: header must have the columns"),
    ],
)
def test_bad_manifest_names_line_rule_and_value(manifest: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        ManifestReID(manifest=str(rewritten(manifest, old, new)))


def test_missing_files_are_counted_and_the_first_three_named(manifest: Path) -> None:
    for name in ("a/0.png", "a/1.png", "c/1.png", "d/0.png"):
        (manifest.parent / name).unlink()
    with pytest.raises(InputError) as caught:
        read_manifest(manifest)
    text = str(caught.value)
    assert "found 4 missing: " in text
    assert all(part in text for part in ("a/0.png (line 2)", "a/1.png (line 3)", "c/1.png (line 6) and 1 more"))


def test_not_text(manifest: Path) -> None:
    manifest.write_bytes(b"\xff\xfe\x00path")
    with pytest.raises(InputError, match="must be a readable CSV file in UTF-8"):
        read_manifest(manifest)


def test_spreadsheet_bytes_are_accepted(manifest: Path) -> None:
    """A byte order mark, CRLF, blank lines and spaces around the values."""
    expected = ManifestReID(manifest=str(manifest)).train
    lines = ROWS.replace('"blurred, dark"', "dark").replace(",", " , ").replace("\n", "\r\n")
    manifest.write_bytes(b"\xef\xbb\xbf" + lines.encode() + b"\r\n , , , , \r\n")
    assert ManifestReID(manifest=str(manifest)).train == expected


@pytest.mark.parametrize("split", ["train", "query", "gallery"])
def test_absent_split_is_an_error_when_asked_for(manifest: Path, split: str) -> None:
    kept = [line for line in ROWS.splitlines() if f",{split}," not in line]
    manifest.write_text("\n".join(kept))
    data = ManifestReID(manifest=str(manifest))
    assert data.items(split) == []
    for other in {"train", "query", "gallery"} - {split}:
        assert getattr(data, other)
    with pytest.raises(InputError, match=f"must have at least one row with the split {split}, found "):
        getattr(data, split)


def test_written_manifest_reads_back(manifest: Path) -> None:
    rows = [Row("c/0.png", 'say "pid", please', "door", "query"), Row("d/0.png", "dora", "till", "gallery")]
    target = manifest.with_name("other.csv")
    write_manifest(rows, target)
    folder = str(manifest.parent)
    read = [row._replace(path=row.path.removeprefix(f"{folder}/"), line=0) for row in read_manifest(target)]
    assert read == rows


def test_interrupted_writing_leaves_nothing(tmp_path: Path) -> None:
    def broken():
        yield Row("a.png", "1", "1", "train")
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        write_manifest(broken(), tmp_path / "manifest.csv")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("junk", ["-1", "-1.0", " -1 "])
def test_junk_is_left_out_of_every_split_and_counted(manifest: Path, junk: str) -> None:
    rewritten(manifest, "b/0.png,bert", f"b/0.png,{junk}")
    rewritten(manifest, "d/0.png,dora,till", f"d/0.png,{junk},")  # nor need it have a camera
    data = ManifestReID(manifest=str(manifest))
    assert data.pid_names == ["anna", "carl"]
    assert [len(data.items(split)) for split in ("train", "query", "gallery")] == [2, 1, 1]
    (found,) = check_rows(data)
    assert (found.level, found.code) == ("note", "junk-rows")
    assert found.message == f"2 rows of {manifest} have the pid -1 and are left out as junk"


def test_a_manifest_of_junk_alone_is_refused(manifest: Path) -> None:
    for name in ("anna", "bert", "carl", "dora"):
        manifest.write_text(manifest.read_text().replace(name, "-1"))
    with pytest.raises(InputError, match="must have rows that are not junk, found pid -1 in all 6"):
        ManifestReID(manifest=str(manifest))


@pytest.mark.parametrize("value", ["nan", "NaN", "None", "null", "NULL", "NA", "n/a", "<NA>", "#N/A", ""])
def test_no_value_is_no_identity(manifest: Path, value: str) -> None:
    """pandas, R, SQL and spreadsheets write these; a class of all unlabelled people is nobody's wish."""
    rewritten(manifest, "b/0.png,bert", f"b/0.png,{value}")
    with pytest.raises(InputError, match=r"manifest.csv:4: pid must "):
        ManifestReID(manifest=str(manifest))


@pytest.mark.parametrize("name", ["-10", "--1", "01", "Nancy", "none2", "0"])
def test_names_that_only_look_like_no_value_are_people(manifest: Path, name: str) -> None:
    rewritten(manifest, "b/0.png,bert", f"b/0.png,{name}")
    assert name in ManifestReID(manifest=str(manifest)).pid_names


@pytest.mark.parametrize("value", ["nan", "None", "<NA>"])
def test_no_value_is_no_camera(manifest: Path, value: str) -> None:
    text = rewritten(manifest, ",door,", f",{value},").read_text()
    with pytest.raises(InputError, match="camid must be filled in every row, or in none"):
        ManifestReID(manifest=str(manifest))
    manifest.write_text(text.replace(",till,", f",{value},"))
    assert not ManifestReID(manifest=str(manifest)).has_cameras


def no_cameras(manifest: Path) -> Path:
    for camera in ("door", "till"):
        rewritten(manifest, f",{camera},", ",,")
    return manifest


def test_without_cameras_a_picture_is_its_own_camera_however_the_manifest_is_named(
    manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_cameras(manifest)
    expected = ManifestReID(manifest=str(manifest)).camid_names
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "link").symlink_to(tmp_path)
    monkeypatch.chdir(tmp_path / "elsewhere")
    for name in ("../manifest.csv", "link/manifest.csv", "./../elsewhere/link/manifest.csv"):
        assert ManifestReID(manifest=name).camid_names == expected == [f"{tmp_path}/{x}" for x in sorted(
            line.split(",")[0] for line in ROWS.splitlines()[1:])]  # fmt: skip


def test_without_cameras_a_linked_query_is_junk_in_the_gallery(manifest: Path) -> None:
    no_cameras(manifest)
    (manifest.parent / "alias").symlink_to("c")
    rewritten(manifest, "c/1.png,carl,,gallery", "alias/0.png,carl,,gallery")
    data = ManifestReID(manifest=str(manifest))
    assert data.items("query")[0][1:] == data.items("gallery")[0][1:]  # same identity, same camera


def test_a_path_may_not_occur_twice_in_a_split_by_a_link(manifest: Path) -> None:
    (manifest.parent / "alias").symlink_to("a")
    rewritten(manifest, "b/0.png,bert", "alias/0.png,bert")
    with pytest.raises(InputError, match=r"manifest.csv:4: a path may occur once .*alias/0.png, already in line 2 as "):
        ManifestReID(manifest=str(manifest))


def test_findings_name_people_and_cameras_as_the_csv_does(manifest: Path) -> None:
    rewritten(manifest, "c/1.png,carl,till,gallery", "c/1.png,anna,door,gallery")
    _, splits = open_dataset("ManifestReID", "", str(manifest))
    data = ManifestReID(manifest=str(manifest))
    found = {one.code: one.message for one in check_test_set(data, splits, splits["train"])}
    assert "1 have an identity (carl) that is not in the gallery (anna, dora)" in found["no-query-match"]
    assert found["identities-shared"] == "1 identities are in training and in test: anna"
    train = check_train(splits["train"], names=data.label_names)
    assert train[0].message == "1 of 2 training identities have a single image: bert"
    rewritten(manifest, "d/0.png,dora,till", "d/0.png,dora,door")
    (split,) = ([one.message for one in check_test_set(*open_dataset("ManifestReID", "", str(manifest)), None)
                 if one.code == "single-camera"],)  # fmt: skip
    assert split == ["all query and gallery images have the same camera, door"]
