"""FastReID's own data set classes on files in the real layouts: trained together, and tested each on its own."""

import random

import pytest
from fastreid.data.datasets.msmt17 import MSMT17

import layouts
from builders import tiny_config
from switchablecompat.data.opening import check_test_set, open_dataset
from switchablecompat.data.training_sets import check_training_sets
from switchablecompat.engine import SwitchableTrainer
from switchablecompat.engine.setup import check_datasets
from switchablecompat.errors import InputError
from switchablecompat.fastreid_shims.loading import use_cpu_loader

IDENTITIES = {"Market1501": 4, "MSMT17": 3, "VeRi": 3, "VehicleID": 3, "VeRiWild": 3}
CAMERAS = {"Market1501": 2, "MSMT17": 2, "VeRi": 2, "VehicleID": 12, "VeRiWild": 2}  # VehicleID: one for each image
TESTS = {"Market1501": (3, 12), "MSMT17": (4, 8), "VeRi": (2, 8),
         "SmallVehicleID": (15, 5), "MediumVehicleID": (18, 6), "LargeVehicleID": (21, 7),
         "SmallVeRiWild": (2, 6), "MediumVeRiWild": (3, 9), "LargeVeRiWild": (4, 12)}  # fmt: skip


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """All data sets in one folder."""
    folder = tmp_path_factory.mktemp("datasets")
    for write in layouts.ALL:
        write(folder)
    return folder


@pytest.fixture
def loaders(root, monkeypatch):
    monkeypatch.setattr("fastreid.data.build._root", str(root))
    use_cpu_loader(True)
    yield SwitchableTrainer
    use_cpu_loader(None)


@pytest.mark.parametrize("names", [("Market1501", "MSMT17"), ("VeRi", "VehicleID", "VeRiWild"), tuple(IDENTITIES)])
def test_identities_and_cameras_of_several_training_sets_are_counted_apart(names, loaders, root):
    cfg = tiny_config("DATASETS.NAMES", names, "SOLVER.IMS_PER_BATCH", 8)
    loader = loaders.build_train_loader(cfg)
    dataset = loader.dataset
    assert dataset.num_classes == sum(IDENTITIES[name] for name in names)
    assert dataset.num_cameras == sum(CAMERAS[name] for name in names)
    folders = {}  # of a class: all its images come from one data set
    for path, pid, _ in dataset.img_items:
        folders.setdefault(dataset.pid_dict[pid], set()).add(path.removeprefix(f"{root}/").partition("/")[0])
    assert sorted(folders) == list(range(dataset.num_classes))
    assert all(len(folder) == 1 for folder in folders.values())
    batch = next(iter(loader))
    loader.shutdown()
    assert 0 <= batch["targets"].min() <= batch["targets"].max() < dataset.num_classes
    sets = [(name, open_dataset(name, str(root), "")[1]["train"]) for name in names]
    assert check_training_sets(sets) == []


@pytest.mark.parametrize("name", TESTS)
def test_every_test_set_opens_and_its_protocol_is_fastreids(name, loaders, root):
    loader, num_query = loaders.build_test_loader(tiny_config(), name)
    assert (num_query, len(loader.dataset) - num_query) == TESTS[name]
    dataset, splits = open_dataset(name, str(root), "")
    assert [finding for finding in check_test_set(dataset, splits, None) if finding.level == "error"] == []


def test_draws_from_a_given_gallery_are_refused_before_anything_is_trained(loaders, root, monkeypatch):
    monkeypatch.setenv("FASTREID_DATASETS", str(root))
    options = ("TEST.GALLERY_DRAWS", 2, "DATASETS.TESTS")
    check_datasets(tiny_config(*options, ("SmallVehicleID",)), eval_only=True)
    with pytest.raises(InputError, match="^TEST.GALLERY_DRAWS: must be 1 for .*, found Market1501"):
        check_datasets(tiny_config(*options, ("SmallVehicleID", "Market1501")), eval_only=True)


def test_people_of_two_sets_with_the_same_labels_are_refused(loaders, root, monkeypatch):
    monkeypatch.setenv("FASTREID_DATASETS", str(root))
    monkeypatch.setattr(MSMT17, "dataset_name", "market1501")  # as a class of one's own, copied from FastReID's
    cfg = tiny_config("DATASETS.NAMES", ("Market1501", "MSMT17"), "SOLVER.IMS_PER_BATCH", 8)
    with pytest.raises(InputError, match="training data: .*of Market1501 have the labels of others in MSMT17"):
        check_datasets(cfg, eval_only=False)


def test_vehicleids_gallery_is_the_same_whatever_was_drawn_before(loaders):
    first = loaders.build_test_loader(tiny_config(), "LargeVehicleID")[0].dataset.img_items
    before = random.random()
    second = loaders.build_test_loader(tiny_config(), "LargeVehicleID")[0].dataset.img_items
    assert first == second
    gallery = first[21:]
    assert len({pid for _, pid, _ in gallery}) == 7
    assert len({camid for *_, camid in first}) == 28  # nothing is left out as the query's own camera
    random.seed(0)
    assert before == random.random()  # the generator went on as if nothing had been drawn
