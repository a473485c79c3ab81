"""The data set check: each planted fault is found, named and graded; sound data give no finding."""

import itertools
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import switchablecompat  # noqa: F401  makes FastReID importable

# isort: split
from fastreid.data import common
from fastreid.data.data_utils import read_image
from fastreid.data.samplers import BalancedIdentitySampler, NaiveIdentitySampler
from fastreid.data.transforms import ToTensor
from fastreid.evaluation.rank import evaluate_rank

from switchablecompat.data.check import check_images, check_test, check_train
from switchablecompat.data.findings import THEMSELVES, Finding, Item, raise_on_errors, summarise
from switchablecompat.data.overlap import check_overlap
from switchablecompat.data.paths import missing_files
from switchablecompat.errors import InputError

SETTINGS = {"ims_per_batch": 8, "num_instance": 4, "sampler": "NaiveIdentitySampler"}


@pytest.fixture
def sound(tmp_path: Path) -> dict[str, list[Item]]:
    """4 training identities x 2 cameras x 2 images; 3 test identities, query in camera 0, gallery 4 x camera 1."""

    def file(name: str) -> str:
        path = tmp_path / name
        path.write_text(name)
        return str(path)

    return {
        "train": [(file(f"t{p}{c}{k}"), f"ds_{p}", f"ds_{c}") for p in range(4) for c in range(2) for k in range(2)],
        "query": [(file(f"q{p}"), p, 0) for p in (10, 11, 12)],
        "gallery": [(file(f"g{p}{k}"), p, 1) for p in (10, 11, 12) for k in range(4)],
    }


def check(train: list[Item], query: list[Item], gallery: list[Item]) -> list[Finding]:
    """Both checks."""
    return [*check_train(train, **SETTINGS), *check_test(query, gallery)]


def codes(findings: list[Finding]) -> dict[str, str]:
    """Levels by code; a code twice would be a fault of the check."""
    assert len({one.code for one in findings}) == len(findings)
    assert all(one.message and one.fix for one in findings)
    return {one.code: one.level for one in findings}


def fastreid_can_score(query: list[Item], gallery: list[Item]) -> bool:
    """Whether FastReID's own evaluator accepts these labels."""
    (qp, qc), (gp, gc) = (np.array([item[1:] for item in items]).reshape(-1, 2).T for items in (query, gallery))
    distances = np.random.default_rng(0).random((len(qp), len(gp)))
    try:
        evaluate_rank(distances, qp, gp, qc, gc, use_cython=False)
    except AssertionError as error:
        return "all query identities do not appear in gallery" not in str(error)
    return True


def test_sound_data_have_no_finding(sound: dict[str, list[Item]]) -> None:
    assert check(**sound) == []
    assert fastreid_can_score(sound["query"], sound["gallery"])


@pytest.mark.parametrize(
    ("split", "change", "code", "words"),
    [
        (
            "query",
            lambda item: (item[0], item[1] + 90, item[2]),
            "no-query-match",
            "(100, 101, 102) that is not in the gallery (10,",
        ),
        ("query", lambda item: (item[0], item[1], 1), "no-query-match", "only from their own camera"),
        ("query", lambda item: None, "empty-query", "no query images"),
        ("gallery", lambda item: None, "empty-gallery", "no gallery images"),
    ],
)
def test_predicts_fastreids_assertion(
    sound: dict[str, list[Item]], split: str, change: Callable[[Item], Any], code: str, words: str
) -> None:
    sound[split] = [changed for item in sound[split] if (changed := change(item))]
    findings = check(**sound)
    assert not fastreid_can_score(sound["query"], sound["gallery"])
    assert codes(findings)[code] == "error"
    assert words in findings[0].message


def test_some_unmatched_queries_are_a_warning_with_both_causes(sound: dict[str, list[Item]]) -> None:
    path = sound["query"][0][0]
    sound["query"] = [(path, 10, 0), (f"{path[:-2]}11", 11, 1), (f"{path[:-2]}12", 77, 0)]
    (finding,) = check(**sound)
    assert (finding.level, finding.code) == ("warning", "some-queries-unmatched")
    assert finding.message.startswith("2 of 3 query images have no valid gallery match: 1 have an identity (77)")
    assert "1 have their identity in the gallery only from their own camera" in finding.message
    assert fastreid_can_score(sound["query"], sound["gallery"])


def test_single_camera(sound: dict[str, list[Item]]) -> None:
    sound["query"] = [(path, pid, 1) for path, pid, _ in sound["query"]]
    found = codes(check(**sound))
    assert found == {"no-query-match": "error", "single-camera": "warning"}


@pytest.mark.parametrize(("number", "expected"), [(10, {}), (9, {"small-gallery": "warning"})])
def test_small_gallery(sound: dict[str, list[Item]], number: int, expected: dict[str, str]) -> None:
    sound["gallery"] = sound["gallery"][:number]
    assert codes(check(**sound)) == expected


def test_small_gallery_counts_what_the_protocol_leaves(sound: dict[str, list[Item]]) -> None:
    sound["gallery"] = sound["gallery"][:10]
    sound["gallery"][0] = (*sound["gallery"][0][:2], 0)  # identity 10, the query's camera: left out for that query
    assert codes(check(**sound)) == {"small-gallery": "warning"}


@pytest.mark.parametrize("number", [np.int64(10), "10", (10,), 10.0])
def test_test_identities_must_be_int(sound: dict[str, list[Item]], number: Any) -> None:
    sound["query"][0] = (sound["query"][0][0], number, 0)
    assert codes(check(**sound))["pid-not-int"] == "error"


def fills_a_batch(sampler: Any, size: int) -> bool:
    """Whether a sampler yields ``size`` indices, or loops for ever (half a second is taken for ever)."""

    def give_up(*_: Any) -> None:
        raise TimeoutError

    previous = signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, 0.5)
    try:
        return len(list(itertools.islice(iter(sampler), size))) == size
    except TimeoutError:
        return False
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs an interval timer")
@pytest.mark.parametrize("kind", [NaiveIdentitySampler, BalancedIdentitySampler])
@pytest.mark.parametrize(
    ("batch", "instances", "code"),
    [(8, 4, None), (16, 4, None), (10, 4, "batch-not-divisible"), (10, 2, "too-few-identities")],
)
def test_predicts_samplers_that_loop(
    sound: dict[str, list[Item]], kind: type, batch: int, instances: int, code: str | None
) -> None:
    settings = {"ims_per_batch": batch, "num_instance": instances, "sampler": kind.__name__}
    findings = check_train(sound["train"], **settings)
    assert codes(findings) == ({code: "error"} if code else {})
    assert fills_a_batch(kind(sound["train"], batch, instances, seed=0), batch) == (code is None)


@pytest.mark.parametrize(
    ("settings", "code"),
    [
        ({"ims_per_batch": 10, "num_instance": 2}, "too-few-identities"),
        ({"ims_per_batch": 2, "num_instance": 4}, "batch-not-divisible"),
        ({"ims_per_batch": 9, "num_instance": 3, "world_size": 2}, "batch-not-divisible"),
        ({"ims_per_batch": 17}, "fewer-images-than-batch"),
    ],
)
def test_settings_that_do_not_fit_the_training_set(
    sound: dict[str, list[Item]], settings: dict[str, int], code: str
) -> None:
    assert codes(check_train(sound["train"], **settings)) == {code: "error"}


def test_other_samplers_need_no_instances(sound: dict[str, list[Item]]) -> None:
    assert check_train(sound["train"], ims_per_batch=10, num_instance=4, sampler="TrainingSampler") == []


def test_training_set_faults(sound: dict[str, list[Item]]) -> None:
    assert codes(check_train([])) == {"empty-train": "error"}
    lonely = [*sound["train"], (sound["query"][0][0], "ds_9", "ds_0")]
    (finding,) = check_train(lonely)
    assert (finding.level, finding.code) == ("warning", "single-image-identities")
    assert finding.message == "1 of 5 training identities have a single image: ds_9"


def test_one_identity_is_nothing_to_train_on(sound: dict[str, list[Item]]) -> None:
    alike = [(path, "ds_1", camid) for path, _, camid in sound["train"]]
    (finding,) = check_train(alike, ims_per_batch=8, sampler="TrainingSampler")
    assert (finding.level, finding.code) == ("error", "one-identity")
    assert "ds_1" in finding.message


def test_missing_files(sound: dict[str, list[Item]], tmp_path: Path) -> None:
    for path, *_ in sound["gallery"][:5]:
        Path(path).unlink()
    (finding,) = check(**sound)
    assert (finding.level, finding.code) == ("error", "missing-files")
    assert finding.message.startswith("5 of 15 image files do not exist: ")
    assert finding.message.endswith("g102 and 2 more")
    assert missing_files([f"{tmp_path}/no/such", sound["query"][0][0], f"{tmp_path}/x"]) == [
        f"{tmp_path}/no/such",
        f"{tmp_path}/x",
    ]


def test_names_listed_in_another_spelling_are_not_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system that ignores case lists A.JPG and opens a.jpg."""
    (tmp_path / "a.jpg").write_text("")
    monkeypatch.setattr("os.listdir", lambda folder: ["A.JPG"])
    assert missing_files([f"{tmp_path}/a.jpg", f"{tmp_path}/b.jpg"]) == [f"{tmp_path}/b.jpg"]


def test_query_files_in_the_gallery(sound: dict[str, list[Item]]) -> None:
    path, pid, camid = sound["query"][0]
    own = {**sound, "gallery": [*sound["gallery"], (path, pid, camid)]}
    assert codes(check(**own)) == {"query-in-gallery-ignored": "note"}
    other = {**sound, "gallery": [*sound["gallery"], (path, pid, 5)]}
    assert codes(check(**other)) == {"query-in-gallery": "warning"}


def test_training_and_test_overlap(sound: dict[str, list[Item]]) -> None:
    sound["query"] += [(sound["train"][0][0], 3, 0)]
    sound["gallery"] += [(sound["train"][1][0], 3, 1)]
    sides = (sound["train"], [*sound["query"], *sound["gallery"]])
    joint = codes([*check_overlap(*sides, "ds", THEMSELVES, literal=True)])
    assert joint == {"identities-shared": "warning", "files-shared": "warning"}
    apart = codes([*check_overlap(*sides, None, THEMSELVES, literal=True)])  # numbered apart: 3 is not ds_3
    assert apart == {"files-shared": "warning"}


def saved(folder: Path, mode: str, suffix: str) -> Path:
    """A picture of one mode."""
    path = folder / f"{mode.replace(';', '')}.{suffix}"
    if mode == "I;16":
        Image.fromarray(np.full((64, 32), 300, np.uint16)).save(path)
    else:
        Image.effect_noise((32, 64), 50).convert("RGB").convert(mode).save(path)
    return path


@pytest.mark.parametrize(("mode", "suffix"), [("RGB", "jpg"), ("L", "png"), ("L", "jpg"), ("1", "png")])
def test_modes_that_fastreid_reads_right(tmp_path: Path, mode: str, suffix: str) -> None:
    path = str(saved(tmp_path, mode, suffix))
    assert check_images([path], workers=1) == []
    expected = np.asarray(Image.open(path).convert("RGB"))
    assert np.array_equal(ToTensor()(common.read_image(path)).permute(1, 2, 0).numpy(), expected)


@pytest.mark.parametrize(
    ("mode", "suffix"), [("P", "png"), ("RGBA", "png"), ("LA", "png"), ("CMYK", "jpg"), ("I;16", "png")]
)
def test_modes_that_fastreid_reads_wrong(tmp_path: Path, mode: str, suffix: str) -> None:
    """It fails on them, or gives another number of channels or other colours than those of the picture."""
    path = str(saved(tmp_path, mode, suffix))
    assert codes(check_images([path], workers=1)) == {"wrong-mode": "error"}
    upstream = getattr(read_image, "__wrapped__", read_image)
    try:
        pixels = ToTensor()(upstream(path)).permute(1, 2, 0).numpy()
    except TypeError:
        return
    expected = np.asarray(Image.open(path).convert("RGB"))
    assert pixels.shape != expected.shape or not np.array_equal(pixels, expected)


def test_damaged_and_odd_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = saved(tmp_path, "RGB", "jpg")
    (tmp_path / "cut.jpg").write_bytes(good.read_bytes()[:-200])
    (tmp_path / "text.jpg").write_text("no picture")
    (tmp_path / "none.jpg").write_bytes(b"")
    Image.new("RGB", (3, 64)).save(tmp_path / "tiny.png")
    Image.new("RGB", (5000, 20)).save(tmp_path / "huge.png")
    paths = [str(path) for path in sorted(tmp_path.iterdir())]
    findings = check_images([*paths, *paths, str(tmp_path / "lost.jpg")], workers=2)
    assert codes(findings) == {
        "empty-image": "error",
        "unreadable-image": "error",
        "tiny-image": "warning",
        "huge-image": "warning",
    }
    unreadable = findings[1].message
    assert unreadable.startswith("3 of 7 images cannot be decoded: ")
    assert all(name in unreadable for name in ("cut.jpg (OSError", "text.jpg (UnidentifiedImageError", "lost.jpg"))
    assert "tiny.png (3 x 64)" in findings[2].message
    out, err = capsys.readouterr()
    assert (out, "7/7" in err) == ("", True)


def test_summary_and_error(sound: dict[str, list[Item]]) -> None:
    assert summarise([]) == "0 errors, 0 warnings, 0 notes"
    raise_on_errors([Finding("warning", "odd", "something is odd", "look")])
    findings = [*check_train([]), *check_test([], sound["gallery"])]
    text = summarise(findings)
    assert text.splitlines()[0].startswith("error: no training images [empty-train]")
    assert text.splitlines()[-1] == "2 errors, 0 warnings, 0 notes"
    with pytest.raises(InputError, match=r"^my data: no training images; check .* \(and 1 more: "):
        raise_on_errors(findings, "my data")
