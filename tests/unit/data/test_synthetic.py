"""The generated data set: layout, determinism, protocol, and what an interruption leaves behind."""

import hashlib
import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fastreid.data.datasets import DATASET_REGISTRY
from fastreid.data.datasets.market1501 import Market1501
from PIL import Image

from switchablecompat.data import pedestrian, synthetic
from switchablecompat.data.synthetic import (
    LAYOUT,
    SyntheticReIDDev,
    SyntheticReIDTiny,
    SyntheticSpec,
    generate,
)
from switchablecompat.errors import InputError

SMALL = SyntheticSpec(
    name="small", train_ids=4, test_ids=3, cameras=2, train_per_id=3, queries_per_id=1, gallery_per_id=2
)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("datasets")


@pytest.fixture(scope="module")
def tiny(root: Path) -> SyntheticReIDTiny:
    return DATASET_REGISTRY.get("SyntheticReIDTiny")(root=str(root))


def fingerprint(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(str(path.relative_to(folder)).encode() + path.read_bytes())
    return digest.hexdigest()


@pytest.mark.filterwarnings("error:The current data structure is deprecated")
def test_fastreids_own_market1501_reads_the_same_items(root: Path, tiny: SyntheticReIDTiny) -> None:
    stock = Market1501(root=str(root / tiny.spec.folder_name()))
    assert sorted(stock.query) == tiny.query
    assert sorted(stock.gallery) == tiny.gallery
    own, name = tiny.dataset_name, stock.dataset_name
    assert sorted((path, p.replace(name, own), c.replace(name, own)) for path, p, c in stock.train) == tiny.train


def test_sizes_follow_the_spec(tiny: SyntheticReIDTiny) -> None:
    assert (len(tiny.train), len(tiny.query), len(tiny.gallery)) == (16 * 6, 12 * 2, 12 * 4)
    assert tiny.parse_data(tiny.train) == (16, 3)
    assert tiny.parse_data(tiny.gallery) == (12, 3)
    with Image.open(tiny.train[0][0]) as image:
        assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (32, 64))


@pytest.mark.parametrize("name", ["SyntheticReID", "SyntheticReIDTiny", "SyntheticReIDDev"])
def test_registered(name: str) -> None:
    assert issubclass(DATASET_REGISTRY.get(name), Market1501)


def test_no_identity_in_train_and_test(tiny: SyntheticReIDTiny) -> None:
    trained = {int(pid.rsplit("_", 1)[1]) for _, pid, _ in tiny.train}
    assert not trained & {pid for _, pid, _ in tiny.query + tiny.gallery}


@pytest.mark.parametrize(
    "spec", [SyntheticSpec(), SyntheticReIDTiny.spec, SyntheticReIDDev.spec, SMALL], ids=lambda spec: spec.name
)
def test_every_query_has_a_match_in_another_camera(spec: SyntheticSpec) -> None:
    seen_by: dict[int, set[int]] = {}
    for folder, pid, camera, _ in spec.jobs():
        if folder == synthetic.GALLERY:
            seen_by.setdefault(pid, set()).add(camera)
    queries = [(pid, camera) for folder, pid, camera, _ in spec.jobs() if folder == synthetic.QUERY]
    assert len(queries) == spec.test_ids * spec.queries_per_id
    assert all(seen_by[pid] - {camera} for pid, camera in queries)


def test_no_two_pictures_share_identity_camera_and_index() -> None:
    jobs = [job[1:] for job in SyntheticSpec().jobs()]
    assert len(set(jobs)) == len(jobs) == 300 * 12 + 200 * (3 + 9)


def test_same_seed_same_bytes_other_seed_other_bytes(tmp_path: Path) -> None:
    first = fingerprint(generate(tmp_path / "a", SMALL))
    assert fingerprint(generate(tmp_path / "b", SMALL)) == first
    other = generate(tmp_path / "a", replace(SMALL, seed=1))
    assert fingerprint(other / LAYOUT) != fingerprint(tmp_path / "a" / SMALL.folder_name() / LAYOUT)


def test_bytes_do_not_depend_on_the_order(tmp_path: Path) -> None:
    folder = generate(tmp_path, SMALL)
    for split in (synthetic.TRAIN, synthetic.QUERY, synthetic.GALLERY):
        (tmp_path / "again" / split).mkdir(parents=True)
    for job in reversed(list(SMALL.jobs())):
        synthetic.render(tmp_path / "again", SMALL, job)
    assert fingerprint(tmp_path / "again") == fingerprint(folder / LAYOUT)


def test_second_use_generates_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = generate(tmp_path, SMALL)
    monkeypatch.setattr(synthetic, "render", lambda *_: pytest.fail("generated again"))
    assert generate(tmp_path, SMALL) == folder


def test_another_spec_gets_another_folder(tmp_path: Path) -> None:
    folders = {generate(tmp_path, spec) for spec in (SMALL, replace(SMALL, width=24), replace(SMALL, name="other"))}
    assert len(folders) == 3
    assert all(json.loads((folder / "spec.json").read_text())["generator"] >= 1 for folder in folders)


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, OSError])
def test_interruption_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, interruption: type[BaseException]
) -> None:
    def draw_a_few(layout: Path, spec: SyntheticSpec, job: synthetic.Job, render=synthetic.render) -> None:
        render(layout, spec, job)
        if len(list(layout.rglob("*.jpg"))) == 3:
            raise interruption

    with monkeypatch.context() as patch:
        patch.setattr(synthetic, "render", draw_a_few)
        with pytest.raises(interruption):
            generate(tmp_path, SMALL)
    assert list(tmp_path.iterdir()) == []
    assert generate(tmp_path, SMALL).is_dir()  # and the next attempt succeeds


def test_the_slower_of_two_concurrent_generations_yields(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def overtaken(*arguments: object, write=synthetic._write_images) -> None:
        monkeypatch.setattr(synthetic, "_write_images", write)
        generate(tmp_path, SMALL)
        write(*arguments)

    monkeypatch.setattr(synthetic, "_write_images", overtaken)
    folder = generate(tmp_path, SMALL)
    assert list(tmp_path.iterdir()) == [folder]


def test_a_changed_folder_is_refused(tmp_path: Path) -> None:
    folder = generate(tmp_path, SMALL)
    next((folder / LAYOUT / "query").glob("*.jpg")).unlink()
    with pytest.raises(InputError, match=r"query: must hold 3 pictures.*found 2"):
        generate(tmp_path, SMALL)
    (folder / "spec.json").write_text("{}")
    with pytest.raises(InputError, match=r"spec\.json: must equal"):
        generate(tmp_path, SMALL)
    (folder / "spec.json").unlink()
    with pytest.raises(InputError, match=r"spec\.json: must be readable"):
        generate(tmp_path, SMALL)


def test_a_root_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "datasets").write_text("")
    with pytest.raises(InputError, match="must be a folder that can be written to"):
        generate(tmp_path / "datasets", SMALL)


@pytest.mark.parametrize(
    ("key", "value"),
    [("cameras", 7), ("cameras", 1), ("gallery_per_id", 1), ("test_ids", 1202), ("seed", -1), ("name", "A b"),
     ("queries_per_id", 7), ("height", 8)],
)  # fmt: skip
def test_spec_outside_market1501s_limits_is_refused(key: str, value: object) -> None:
    with pytest.raises(InputError, match=key):
        SyntheticSpec(**{key: value})


def test_the_development_set_shows_nobody_and_no_camera_of_the_full_set() -> None:
    def people(spec: SyntheticSpec, split: int, pids: range) -> set[str]:
        return {repr(pedestrian.sample_identity(np.random.default_rng((spec.seed, split, pid)))) for pid in pids}

    full, dev = SyntheticSpec(), SyntheticReIDDev.spec
    everyone = [
        people(spec, split, range(*limits))
        for spec in (full, dev)
        for split, limits in (
            (0, (1, spec.train_ids + 1)),
            (1, (spec.train_ids + 1, spec.train_ids + spec.test_ids + 1)),
        )
    ]
    assert [len(some) for some in everyone] == [300, 200, 200, 800]
    assert len(set.union(*everyone)) == 1500
    cameras = {
        repr(pedestrian.sample_camera(np.random.default_rng((spec.seed, 2, camera)), camera))
        for spec in (full, dev)
        for camera in range(6)
    }
    assert len(cameras) == 12


def test_generation_is_fast_enough_for_first_use(tmp_path: Path) -> None:
    start = time.process_time()  # of the processor: other work on the machine does not count
    generate(tmp_path, SyntheticReIDTiny.spec)
    assert time.process_time() - start < 2


def test_drawing_is_pure_and_keeps_the_person_recognisable() -> None:
    rng = np.random.default_rng
    who, camera = pedestrian.sample_identity(rng(1)), pedestrian.sample_camera(rng(2), 0)
    crop = pedestrian.draw_crop(who, camera, rng(3), 96, 48)
    assert crop.shape == (96, 48, 3)
    assert crop.dtype == np.uint8
    np.testing.assert_array_equal(crop, pedestrian.draw_crop(who, camera, rng(3), 96, 48))
    assert crop.std() > 10  # grey levels; an empty picture has the noise's 3 to 9 only
    changed = pedestrian.draw_crop(replace(who, upper=(255, 0, 0), pattern="plain"), camera, rng(3), 96, 48)
    assert np.abs(changed.astype(int) - crop).max() > 50


def test_the_pictures_are_those_of_this_version_of_the_generator() -> None:
    """Published figures are of these pixels: other ones need another GENERATOR_VERSION, and then a digest of theirs."""
    digest, rng = hashlib.sha256(), np.random.default_rng
    for number in range(60):  # all traits, motifs and cameras
        who, camera = (
            pedestrian.sample_identity(rng((5, number))),
            pedestrian.sample_camera(rng((6, number % 6)), number % 6),
        )
        size = (64, 32) if number % 3 else (96, 40)
        digest.update(pedestrian.draw_crop(who, camera, rng((7, number)), *size).tobytes())
    assert synthetic.GENERATOR_VERSION == 2
    assert digest.hexdigest() == "789ffa5c84259b7fe7c84a8139330f92f69bc72ab4a420f37a862d8c0e2e7714"


def test_drawing_does_not_import_torch() -> None:
    path = Path(pedestrian.__file__)
    code = "import runpy, sys; runpy.run_path(sys.argv[1]); sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code, path], check=True, timeout=60)
