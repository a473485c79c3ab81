"""What a resume takes, what it refuses, and what it says."""

import logging
import math

import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR, MultiStepLR

from builders import reference_files, tiny_config, tiny_model
from switchablecompat.engine import resume
from switchablecompat.engine.resume import check_settings, check_state, follow_new_length
from switchablecompat.engine.training_set import training_set_record
from switchablecompat.errors import InputError
from switchablecompat.modeling.checkpoint import RECORD_KEY
from switchablecompat.modeling.trained import run_record
from switchablecompat.settings import flat_settings

INFLUENCE = ("MODEL.LOSSES.NAME", "('CompatibleLoss', 'InfluenceLoss')")


@pytest.fixture(autouse=True)
def _heard(monkeypatch, caplog):
    """FastReID's logger does not propagate once it is set up."""
    monkeypatch.setattr(resume, "logger", logging.getLogger("resume"))
    caplog.set_level(logging.INFO)


def check(*opts, of=("SEED", 3)):
    return check_settings(tiny_config(*of, *opts), run_record(tiny_config(*of)), "outputs/x/model_0000.pth")


TAKEN = [
    ("METHOD", "mine"), ("MODEL.DEVICE", "cuda"), ("MODEL.WEIGHTS", "gone.pth"),
    ("MODEL.BACKBONE.PRETRAIN_PATH", "gone.pth"), ("DATASETS.MANIFEST", "moved.csv"),
    ("DATASETS.TESTS", "('Market1501',)"), ("DATALOADER.NUM_WORKERS", 5), ("SOLVER.CHECKPOINT_PERIOD", 7),
    ("TEST.EVAL_PERIOD", 7), ("TEST.IMS_PER_BATCH", 3), ("TEST.FLIP.ENABLED", True), ("TEST.RERANK.ENABLED", True),
    ("CUDNN_BENCHMARK", True), ("MODEL.SWITCHABLE.CHANNELS_LAST", True), ("SOLVER.AMP.DTYPE", "bfloat16"),
    ("MODEL.SWITCHABLE.COMPILE", "cudagraphs"),
]  # fmt: skip


@pytest.mark.parametrize(("key", "value"), TAKEN)
def test_what_does_not_change_the_training_is_taken_by_name(key, value):
    (line,) = check(key, value)
    assert line.startswith(f"Resumed with another {key}: ")
    assert "before" in line


REFUSED = [
    ("SOLVER.OPT", "Adam"), ("SOLVER.BASE_LR", 0.5), ("SOLVER.MOMENTUM", 0.5), ("SOLVER.BIAS_LR_FACTOR", 2.0),
    ("SOLVER.HEADS_LR_FACTOR", 10.0), ("SOLVER.WEIGHT_DECAY_NORM", 0.0), ("SOLVER.SCHED", "MultiStepLR"),
    ("SOLVER.WARMUP_ITERS", 1), ("SOLVER.IMS_PER_BATCH", 8), ("SOLVER.AGGREGATION.NAME", "sum"),
    ("SOLVER.AGGREGATION.GRANULARITY", "layer"), ("SOLVER.CLIP_GRADIENTS.ENABLED", True),
    ("MODEL.LOSSES.COMPAT.KIND", "ce"), ("MODEL.LOSSES.COMPAT.PRESET", "paper"),
    ("MODEL.LOSSES.NAME", "('CompatibleLoss', 'TripletLoss')"), ("MODEL.HEADS.POOL_LAYER", "GlobalMaxPool"),
    ("MODEL.HEADS.SCALE", 2), ("MODEL.SWITCHABLE.WIDTHS", "[0.5, 1.0]"),
    ("MODEL.SWITCHABLE.CLASSIFIER_GRAD", "all"), ("MODEL.SWITCHABLE.SLOW_START", 0.25),
    ("MODEL.PIXEL_MEAN", "[0.0, 0.0, 0.0]"), ("INPUT.SIZE_TRAIN", "[32, 32]"), ("INPUT.SIZE_TEST", "[32, 32]"),
    ("INPUT.REA.ENABLED", False), ("DATASETS.NAMES", "('Market1501',)"), ("DATASETS.COMBINEALL", True),
    ("DATALOADER.NUM_INSTANCE", 2), ("DATALOADER.SAMPLER_TRAIN", "TrainingSampler"),
    ("TEST.PRECISE_BN.ENABLED", False), ("TEST.PRECISE_BN.NUM_ITER", 1), ("SOLVER.MAX_EPOCH", 1),
]  # fmt: skip


@pytest.mark.parametrize(("key", "value"), REFUSED)
def test_everything_else_is_refused_with_both_values(key, value):
    settings = (flat_settings(tiny_config(*opts))[key] for opts in ((), (key, value)))
    there, here = map(repr, settings)
    assert there != here
    with pytest.raises(InputError) as error:
        check(key, value)
    assert str(error.value) == f"{key}: must be {there} to resume outputs/x/model_0000.pth, found {here}"


def test_a_folder_that_was_moved_is_no_difference():
    assert check("OUTPUT_DIR", "elsewhere") == []


def test_all_differences_are_in_the_one_line():
    with pytest.raises(InputError) as error:
        check("SOLVER.OPT", "Adam", "SOLVER.BASE_LR", 0.5, "TEST.EVAL_PERIOD", 5)
    assert "\n" not in str(error.value)
    assert str(error.value).startswith("SOLVER.BASE_LR: must be 0.1 to resume")
    assert str(error.value).endswith("found 0.5; also SOLVER.OPT 'SGD' there and 'Adam' here")


def test_another_seed_is_refused_and_none_is_the_runs():
    check("SEED", -1)
    with pytest.raises(InputError, match=r"^SEED: must be 3 to resume .*, or -1, found 4"):
        check("SEED", 4)


def test_classes_that_are_to_be_counted_are_the_runs():
    check("MODEL.HEADS.NUM_CLASSES", 0)
    with pytest.raises(InputError, match=r"^MODEL.HEADS.NUM_CLASSES: must be 7 "):
        check("MODEL.HEADS.NUM_CLASSES", 9)


def test_what_nothing_reads_may_differ_as_long_as_nothing_reads_it():
    check("SOLVER.AGGREGATION.GRANULARITY", "layer", of=("SOLVER.AGGREGATION.NAME", "sum"))
    with pytest.raises(InputError, match="AGGREGATION.NAME 'sum' there|AGGREGATION.NAME: must be 'sum'"):
        check("SOLVER.AGGREGATION.NAME", "projection", of=("SOLVER.AGGREGATION.NAME", "sum"))


def test_a_longer_training_is_taken_and_a_share_of_it_is_said_to_have_changed():
    assert check("SOLVER.MAX_EPOCH", 9) == ["Resumed with another SOLVER.MAX_EPOCH: 2 before, 9 now"]
    _, warning = check("SOLVER.MAX_EPOCH", 9, of=("MODEL.SWITCHABLE.SLOW_START", 0.5))
    assert warning.startswith("MODEL.SWITCHABLE.SLOW_START is a share of SOLVER.MAX_EPOCH: ")
    assert "2 epochs" in warning
    assert "9 from the start" in warning


def test_a_reference_may_move_but_not_change(tmp_path):
    folders = []
    for name, seed in (("here", 1), ("moved", 1), ("another", 2)):
        torch.manual_seed(seed)
        (tmp_path / name).mkdir()
        folders.append((*INFLUENCE, *reference_files(tmp_path / name)[1]))
    here, moved, another = folders
    check(*moved, of=here)
    with pytest.raises(InputError, match=r"^MODEL.REFERENCE.WEIGHTS: must hold the model that the run was trained"):
        check(*another, of=here)


def test_a_checkpoint_without_settings_is_resumed_and_says_what_is_not_known():
    (line,) = check_settings(tiny_config("SEED", -1, "SOLVER.OPT", "Adam"), {}, "m.pth")
    assert line == "m.pth keeps no settings: only shapes can be compared"


ITEMS = [("data/1.png", "a_0", 0), ("data/2.png", "a_1", 0), ("data/3.png", "a_1", 1), ("data/4.png", "a_2", 0)]


def state(optimizer, items=ITEMS):
    return {"optimizer": optimizer.state_dict(), RECORD_KEY: training_set_record(items)}


def test_a_training_set_may_move_and_be_listed_in_any_order():
    optimizer = torch.optim.SGD(tiny_model().parameters(), 0.1)
    moved = [(path.replace("data", "disk"), pid, camid) for path, pid, camid in reversed(ITEMS)]
    check_state(state(optimizer), "m.pth", moved, optimizer)


@pytest.mark.parametrize(
    "items",
    [
        [*ITEMS[:3], ("data/4.png", "b_2", 0)],
        [("data/1.png", "a_1", 0), ("data/2.png", "a_0", 0), ("data/3.png", "a_0", 1), ITEMS[3]],
        ITEMS[:3],
        [*ITEMS, ("data/5.png", "a_3", 0)],
        [("data/2.png", "a_0", 0), ("data/1.png", "a_1", 0), *ITEMS[2:]],
    ],
    ids=["renamed", "reordered", "missing", "new", "other images of the same labels"],
)
def test_other_identities_are_refused(items):
    optimizer = torch.optim.SGD(tiny_model().parameters(), 0.1)
    with pytest.raises(InputError, match=r"^DATASETS.NAMES: must have the run's identities in the same order"):
        check_state(state(optimizer), "m.pth", items, optimizer)


def test_another_optimiser_and_other_groups_are_refused_also_where_no_settings_are_kept():
    parameters = list(tiny_model().parameters())
    sgd = torch.optim.SGD(parameters, 0.1)
    old = {"optimizer": sgd.state_dict()}
    check_state(old, "m.pth", ITEMS, torch.optim.SGD(parameters, 0.2))
    with pytest.raises(InputError, match=r"^SOLVER.OPT: must be the optimiser of the run, with .*momentum.*betas"):
        check_state(old, "m.pth", ITEMS, torch.optim.Adam(parameters, 0.1))
    two = torch.optim.SGD([{"params": parameters[:3]}, {"params": parameters[3:]}], 0.1)
    with pytest.raises(InputError, match=rf"groups of parameters, \[{len(parameters)}\], .* found \[3, "):
        check_state(old, "m.pth", ITEMS, two)


def trained(epochs, periods):
    """A cosine schedule of ``periods`` epochs after some of them."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], 0.1)
    scheduler = CosineAnnealingLR(optimizer, periods, eta_min=0.0005)
    for _ in range(epochs):
        optimizer.step()
        scheduler.step()
    return optimizer, scheduler


@pytest.mark.parametrize("done", [2, 4])
def test_a_cosine_goes_on_as_that_of_the_longer_training(done, caplog):
    """In the closed form from the paper; today's rate climbed from the end of the short schedule back to its start."""
    optimizer, scheduler = trained(done, 4)
    follow_new_length(scheduler, 6, (done, 6))
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith("SOLVER.SCHED CosineAnnealingLR depends on SOLVER.MAX_EPOCH. The first ")
    rates = []
    for _ in range(done, 7):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    expected = [0.0005 + 0.0995 * (1 + math.cos(math.pi * epoch / 6)) / 2 for epoch in range(done, 7)]
    assert rates == pytest.approx(expected, rel=1e-12)


def test_a_schedule_that_does_not_depend_on_the_length_is_left_alone(caplog):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], 0.1)
    follow_new_length(MultiStepLR(optimizer, [1]), None, (2, 6))
    follow_new_length(trained(2, 4)[1], 4, (2, 4))
    assert not caplog.records
