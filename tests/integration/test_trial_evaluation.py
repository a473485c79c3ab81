"""What would end a run in its first evaluation ends it before training, in one line; and nothing is disturbed."""

import csv
import random
from pathlib import Path

import fastreid.data.build
import numpy as np
import pytest
import torch
from fastreid.data import CommDataset
from fastreid.data.transforms import build_transforms

from builders import R18, TINY, tiny_config, tiny_model
from gallery_builders import write_images
from switchablecompat.engine import trial_evaluation
from switchablecompat.engine.train_loop import SwitchableTrainLoop
from switchablecompat.engine.trial_evaluation import choose, try_evaluation
from switchablecompat.errors import InputError

VIT = ("MODEL.BACKBONE.NAME", "build_switchable_backbone", "MODEL.SWITCHABLE.BACKBONE", "build_vit_backbone",
       "MODEL.BACKBONE.DEPTH", "small", "INPUT.SIZE_TRAIN", "[64, 32]", "MODEL.BACKBONE.FEAT_DIM", 768)  # fmt: skip
ITEMS = [(f"{number:03d}.png", pid, camid) for number, (pid, camid) in enumerate(
    [(0, 0), (1, 0), (9, 0), (2, 0), (0, 0), (0, 1), (3, 0), (1, 1), (2, 0), (2, 1), (4, 1)])]  # fmt: skip
QUERIES = 4  # of identities 0, 1, 9 (that nobody has) and 2


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    write_images(folder, len(ITEMS), (32, 64))
    return folder


@pytest.fixture
def images(folder):
    items = [(str(folder / name), pid, camid) for name, pid, camid in ITEMS]
    return CommDataset(items, build_transforms(tiny_config(), is_train=False), relabel=False)


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (1, ([0], [5])),
        (4, ([0, 1], [5, 7])),
        (6, ([0, 1, 3], [5, 7, 9])),
        (8, ([0, 1, 3], [4, 5, 6, 7, 9])),
        (99, ([0, 1, 3], [4, 5, 6, 7, 8, 9, 10])),
    ],
)
def test_the_batch_has_queries_that_count_with_a_match_and_then_the_first_of_the_gallery(size, expected):
    assert choose(ITEMS, QUERIES, size) == expected


def test_without_a_match_the_evaluation_says_so(images):
    images.img_items = [(path, pid, 0) for path, pid, _ in images.img_items]
    with pytest.raises(InputError, match="no query has a"):
        try_evaluation(tiny_config(), tiny_model(), images, QUERIES, "toy")


@pytest.mark.parametrize("opts", [
    (), ("TEST.FLIP.ENABLED", True), ("TEST.AQE.ENABLED", True), ("TEST.RERANK.ENABLED", True),
    ("TEST.IMS_PER_BATCH", 2),
])  # fmt: skip
def test_model_and_random_states_stay_as_they_are(images, opts):
    model = tiny_model().train()
    model.backbone.bn1.eval()  # a frozen one
    modes = [module.training for module in model.modules()]
    before = {key: value.clone() for key, value in model.state_dict().items()}
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    try_evaluation(tiny_config(*opts), model, images, QUERIES, "toy")
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert random.getstate() == states[0]
    assert np.random.get_state()[1].tolist() == states[1]
    assert torch.equal(torch.get_rng_state(), states[2])
    assert model.switch.is_full


def test_features_of_a_network_that_is_not_trained_may_be_anything(images):
    model = tiny_model()
    with torch.no_grad():
        model.backbone.bn1.weight.fill_(float("inf"))
    try_evaluation(tiny_config(), model, images, QUERIES, "toy")


def test_all_of_the_evaluation_is_rehearsed(images, monkeypatch):
    seen = []
    grid_of_features = trial_evaluation.grid_of_features
    monkeypatch.setattr(trial_evaluation, "grid_of_features", lambda *a: seen.append(grid_of_features(*a)) or seen[-1])
    try_evaluation(tiny_config("TEST.RERANK.ENABLED", True), tiny_model(), images, QUERIES, "toy")
    (grid,) = seen
    assert all(value is not None for row in grid.values["mAP"] for value in row)
    assert len(grid.refined.widths) == len(grid.widths) == 4


def write_manifest(path, rows):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("path", "pid", "camid", "split"), *rows])
    return path


def test_before_the_first_step_every_test_set_is_rehearsed(refused, folder, tmp_path, monkeypatch):
    """The second test set cannot be read; a vision transformer has positions for one size, GeM needs some pixels."""
    steps = []
    monkeypatch.setattr(SwitchableTrainLoop, "run_step", lambda self: steps.append(1))
    monkeypatch.setattr(fastreid.data.build, "_root", str(tmp_path))  # read when it was imported
    monkeypatch.setenv("FASTREID_DATASETS", str(tmp_path))
    (folder / "broken.png").write_text("no image")
    rows = [(folder / f"{number:03d}.png", f"t{number % 2}", number // 4, "train") for number in range(8)]
    rows += [(folder / "broken.png", 5, 0, "query"), (folder / "009.png", 5, 1, "gallery")]
    manifest = write_manifest(tmp_path / "people.csv", rows)
    run = ["--config-file", TINY, "OUTPUT_DIR", tmp_path / "out", "DATASETS.MANIFEST", manifest]
    second = ["DATASETS.TESTS", "('SyntheticReIDTiny', 'ManifestReID')"]
    assert refused("train_net.py", [*map(str, [*run, *second])]).startswith(
        f"error: {folder / 'broken.png'}: must be a readable image"
    )
    vit = ["--config-file", TINY, "OUTPUT_DIR", tmp_path / "vit", *VIT, "INPUT.SIZE_TEST", "[128, 32]",
           "TEST.PRECISE_BN.ENABLED", False]  # fmt: skip
    assert refused("train_net.py", [*map(str, vit)]).startswith(
        "error: data set SyntheticReIDTiny: one batch of it must go through the evaluation (INPUT.SIZE_TEST [128, 32])"
    )
    small = ["--config-file", R18, "OUTPUT_DIR", tmp_path / "small", "INPUT.SIZE_TEST", "[1, 1]"]
    assert "data set SyntheticReIDTiny: one batch" in refused("train_net.py", [*map(str, small)])
    assert steps == []
    assert not list(Path(tmp_path).rglob("*.pth"))
