"""tools/check_dataset.py as a command: tables, exit codes, and one clear line for every bad input."""

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

import switchablecompat  # noqa: F401  makes FastReID importable, as any user's first import does

ROOT = Path(__file__).parents[2]
TOOL = ROOT / "tools" / "check_dataset.py"


def market(root: Path, query_camera: int = 1) -> Path:
    """A Market-1501 folder: 2 training and 2 test identities, query in one camera, 10 gallery images in another."""
    base = root / "Market-1501-v15.09.15"
    names = [f"bounding_box_train/{pid:04d}_c{camera}_{k}.jpg" for pid in (1, 2) for camera in (1, 2) for k in (1, 2)]
    names += [f"query/{pid:04d}_c{query_camera}_1.jpg" for pid in (3, 4)]
    names += [f"bounding_box_test/{pid:04d}_c2_{k}.jpg" for pid in (3, 4) for k in range(5)]
    for number, name in enumerate(names):
        path = base / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (32, 64), (number, 0, 0)).save(path)
    return root


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """A manifest without cameras: 4 training images, 1 query, 10 gallery images."""
    lines = ["path,pid,split"]
    rows = [("a", "train")] * 2 + [("b", "query")] + [("b", "gallery")] * 10 + [("c", "train")] * 2
    for number, (pid, split) in enumerate(rows):
        Image.new("L", (32, 64), number).save(tmp_path / f"{number}.png")
        lines.append(f"{number}.png,{pid},{split}")
    path = tmp_path / "manifest.csv"
    path.write_text("\n".join(lines))
    return path


class Result:
    """What a command left: exit code, output, error lines."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err
        self.errors = [line for line in err.splitlines() if line.startswith("error:")]


@pytest.fixture
def tool(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    """Run the script in this process: starting Python and torch anew for each case would take minutes."""
    monkeypatch.delenv("FASTREID_DATASETS", raising=False)

    def run(*arguments: object) -> Result:
        monkeypatch.setattr("sys.argv", [str(TOOL), *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            runpy.run_path(str(TOOL), run_name="__main__")
        return Result(stopped.value.code, *capsys.readouterr())

    return run


def test_command_in_its_own_process(manifest: Path) -> None:
    manifest.write_text(manifest.read_text().replace("\n2.png,b", "\n2.png,z"))
    process = subprocess.run(
        [sys.executable, str(TOOL), "--manifest", "manifest.csv"],
        cwd=manifest.parent,
        env={**os.environ, "PYTHONPATH": os.path.abspath(ROOT / "projects" / "SwitchableCompat")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 2
    assert process.stderr.startswith("error: data set: ManifestReID: 1 of 1 query images have no valid gallery match")
    assert process.stderr.count("\n") == 1
    assert "fix: number the identities of query and gallery alike" in process.stdout


def test_sound_manifest(tool, manifest: Path) -> None:
    result = tool("--manifest", manifest, "--images", "--json", manifest.with_suffix(".json"))
    assert (result.code, result.errors) == (0, [])
    assert result.out.splitlines()[2:5] == [
        "ManifestReID  train           4             2          4",
        "ManifestReID  query           1             1          1",
        "ManifestReID  gallery        10             1         10",
    ]
    assert result.out.endswith("0 errors, 0 warnings, 0 notes\n")
    assert "15/15" in result.err  # progress
    record = json.loads(manifest.with_suffix(".json").read_text())
    assert record["format"] == 1
    assert record["findings"] == []
    assert record["counts"][2] == {
        "data set": "ManifestReID",
        "split": "gallery",
        "images": 10,
        "identities": 1,
        "cameras": 10,
    }


def test_manifest_for_evaluation_only(tool, manifest: Path) -> None:
    manifest.write_text("\n".join(line for line in manifest.read_text().splitlines() if "train" not in line))
    assert tool("--manifest", manifest).code == 0


def test_sound_market_folder(tool, tmp_path: Path) -> None:
    result = tool("--dataset", "Market1501", "--root", market(tmp_path), "--images")
    assert (result.code, result.errors) == (0, [])
    assert "Market1501  gallery        10             2          1" in result.out


def test_shared_identities_are_seen_where_the_numbers_allow_it(tool, manifest: Path) -> None:
    manifest.write_text(manifest.read_text().replace("1.png,a", "1.png,b"))
    result = tool("--manifest", manifest)
    assert result.code == 0
    assert "warning: ManifestReID: 1 identities are in training and in test: b [identities-shared]" in result.out


def test_image_faults_are_found_with_images_only(tool, manifest: Path) -> None:
    (manifest.parent / "3.png").write_text("no picture")
    assert tool("--manifest", manifest).code == 0
    result = tool("--manifest", manifest, "--images", "--json", manifest.with_suffix(".json"))
    assert result.code == 2
    assert result.errors[0].startswith("error: data set: 1 of 15 images cannot be decoded: ")
    (finding,) = json.loads(manifest.with_suffix(".json").read_text())["findings"]
    assert (finding["level"], finding["code"]) == ("error", "unreadable-image")


def bad_market(root: Path, kind: str) -> Path:
    """A Market-1501 folder with one planted fault."""
    base = market(root, query_camera=2 if kind == "camera" else 1) / "Market-1501-v15.09.15"
    if kind == "folder":
        (base / "query").rename(base / "probe")
    elif kind == "name":
        (base / "query" / "0003_c1_1.jpg").rename(base / "query" / "anna.jpg")
    elif kind == "number":
        (base / "query" / "0003_c1_1.jpg").rename(base / "query" / "1502_c1_1.jpg")
    elif kind == "suffix":
        for path in list((base / "query").iterdir()):
            path.rename(path.with_suffix(".png"))
    return root


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("folder", ("data set Market1501: needs Market-1501-v15.09.15/{bounding_box_train,", 'query" is not found')),
        ("name", ("data set Market1501: needs ", "found ", "query/anna.jpg, whose name or number")),
        ("number", ("data set Market1501: needs ", "AssertionError", "query/1502_c1_1.jpg, whose name or number")),
        ("suffix", ("no query images", "read .jpg only")),
        ("camera", ("2 of 2 query images have no valid gallery match", "only from their own camera")),
    ],
)
def test_bad_market_folder(tool, tmp_path: Path, kind: str, words: tuple[str, ...]) -> None:
    result = tool("--dataset", "Market1501", "--root", bad_market(tmp_path, kind))
    assert result.code == 2
    assert result.err.splitlines() == result.errors
    assert len(result.errors) == 1
    assert all(word in result.errors[0] for word in words)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "command line: one of the arguments --config-file --manifest --dataset is required"),
        (["--dataset", "Market"], "data set: must be one of AirportALERT, "),
        (
            ["--dataset", "Market1501", "--root", "nowhere"],
            "below nowhere, found no such folder (set FASTREID_DATASETS",
        ),
        (["--dataset", "MSMT17", "--root", "."], "needs MSMT17_V1/{train,test,list_*.txt} or MSMT17_V2/"),
        (["--dataset", "ManifestReID"], "DATASETS.MANIFEST: must name a CSV file"),
        (["--manifest", "lost.csv"], "lost.csv: must be a CSV file, absolute or relative to "),
        (["--manifest", "m.csv", "SOLVER.IMS_PER_BATCH", "8"], "KEY VALUE needs --config-file, found SOLVER."),
        (["--config-file", "lost.yml"], "must be an existing yaml file, found lost.yml"),
    ],
)
def test_bad_arguments(tool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], words: str) -> None:
    monkeypatch.chdir(tmp_path)
    result = tool(*arguments)
    assert result.code == 2
    assert result.out == ""
    assert result.err.splitlines() == result.errors
    assert len(result.errors) == 1
    assert words in result.errors[0]


def test_json_that_cannot_be_written(tool, manifest: Path) -> None:
    result = tool("--manifest", manifest, "--json", manifest / "check.json")
    assert result.code == 2
    assert f"--json: must be a file that can be written, found {manifest}" in result.errors[0]


def test_config_gives_data_sets_and_batch(tool, manifest: Path) -> None:
    config = manifest.with_suffix(".yml")
    config.write_text(
        "MODEL:\n  META_ARCHITECTURE: SwitchableBaseline\n  BACKBONE: {NAME: build_switchable_backbone}\n"
        "  HEADS: {NAME: SwitchableEmbeddingHead, EMBEDDING_DIM: 8}\n  LOSSES: {NAME: [CompatibleLoss]}\n"
        f"DATASETS: {{NAMES: [ManifestReID], TESTS: [ManifestReID], MANIFEST: {manifest}}}\n"
        "DATALOADER: {SAMPLER_TRAIN: NaiveIdentitySampler, NUM_INSTANCE: 2}\n"
    )
    sound = tool("--config-file", config, "SOLVER.IMS_PER_BATCH", 2, "--images")
    assert (sound.code, sound.errors) == (0, [])
    result = tool("--config-file", config, "SOLVER.IMS_PER_BATCH", 8)
    assert result.code == 2
    assert "2 training identities, a batch needs 4 (SOLVER.IMS_PER_BATCH 8 / DATALOADER.NUM_INSTANCE 2)" in result.out
    assert "SOLVER.IMS_PER_BATCH 8" in result.errors[0]
    assert "(and 1 more: " in result.errors[0]


def test_help_has_an_example(tool) -> None:
    result = tool("--help")
    assert result.code == 0
    assert "python tools/check_dataset.py --manifest my_images/manifest.csv --images" in result.out
