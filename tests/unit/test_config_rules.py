"""Numbers of augmentation and schedule that make no sense: one line with key, rule and value, and no training."""

import itertools

import pytest
import torch
from fastreid.data.transforms import build_transforms
from PIL import Image

from builders import tiny_config, tiny_model
from switchablecompat.config_check import check_share, check_switchablecompat_config, check_training_sizes
from switchablecompat.config_rules import OPTIMIZERS
from switchablecompat.config_unread import MAY_BE_NEVER, getter
from switchablecompat.engine.trainer import SwitchableTrainer
from switchablecompat.errors import InputError
from switchablecompat.modeling.opened import strip_training

BATCH = "SOLVER.IMS_PER_BATCH"
ALONE = ("DATALOADER.SAMPLER_TRAIN", "TrainingSampler", "DATALOADER.NUM_INSTANCE", 1)

BAD = [
    *((f"{node}.PROB", value, "must be between 0 and 1") for node in MAY_BE_NEVER for value in (1.5, -0.1)),
    ("INPUT.FLIP.PROB", float("nan"), "must be between 0 and 1"),
    ("INPUT.CJ.BRIGHTNESS", -0.1, "not negative"),
    ("INPUT.CJ.CONTRAST", float("nan"), "finite number"),
    ("INPUT.CJ.SATURATION", float("inf"), "finite number"),
    ("INPUT.CJ.HUE", 0.6, "between 0 and 0.5"),
    ("INPUT.PADDING.MODE", "zeros", "must be one of ['constant', 'edge', 'reflect', 'symmetric'], found 'zeros'"),
    ("INPUT.PADDING.MODE", "Constant", "must be one of"),
    ("INPUT.PADDING.SIZE", -1, "not negative, found -1"),
    ("INPUT.PADDING.SIZE", 16, "below the shorter side of INPUT.SIZE_TRAIN [32, 16]"),
    ("INPUT.REA.VALUE", "[1.0, 2.0]", "one number or three"),
    ("INPUT.REA.VALUE", "[]", "one number or three"),
    ("INPUT.REA.VALUE", "[300, 0, 0]", "from 0 to 255, found [300, 0, 0]"),
    ("INPUT.REA.VALUE", "['grey']", "one number or three"),
    ("INPUT.CROP.SCALE", "[0.5, 0.1]", "ascending shares"),
    ("INPUT.CROP.SCALE", "[0, 1]", "above 0"),
    ("INPUT.CROP.SCALE", "[0.5, 1.5]", "up to 1"),
    ("INPUT.CROP.RATIO", "[-1.0, 1.0]", "above 0"),
    ("INPUT.CROP.RATIO", "[1.0]", "two ascending"),
    ("SOLVER.STEPS", "[-1, 5]", "whole numbers from 1, found [-1, 5]"),
    ("SOLVER.STEPS", "['forty']", "whole numbers from 1, found ['forty']"),
    ("SOLVER.STEPS", "[0]", "whole numbers from 1"),
    ("SOLVER.STEPS", "[30.5]", "whole numbers from 1"),
    ("SOLVER.STEPS", "[True]", "whole numbers from 1"),
    ("SOLVER.GAMMA", 0.0, "above 0 and up to 1"),
    ("SOLVER.GAMMA", 10.0, "above 0 and up to 1, found 10.0"),
    ("SOLVER.GAMMA", -0.1, "above 0 and up to 1"),
    ("SOLVER.GAMMA", float("nan"), "above 0 and up to 1"),
    ("SOLVER.WARMUP_FACTOR", -0.1, "between 0 and 1"),
    ("SOLVER.WARMUP_FACTOR", 2.0, "between 0 and 1"),
    ("SOLVER.HEADS_LR_FACTOR", -1.0, "not negative"),
    ("SOLVER.BIAS_LR_FACTOR", float("inf"), "finite"),
    ("SOLVER.WEIGHT_DECAY", float("inf"), "finite"),
    ("SOLVER.WEIGHT_DECAY_NORM", -0.1, "not negative"),
    ("SOLVER.WEIGHT_DECAY_BIAS", float("nan"), "finite"),
    ("SOLVER.DELAY_EPOCHS", -1, "not negative"),
    ("SOLVER.FREEZE_ITERS", -1, "not negative"),
    ("SOLVER.CLIP_GRADIENTS.CLIP_TYPE", "both", "must be one of ['norm', 'value']"),
    ("SOLVER.CLIP_GRADIENTS.CLIP_VALUE", 0.0, "must be positive"),
    ("SOLVER.CLIP_GRADIENTS.NORM_TYPE", -2.0, "must be positive"),
    *(("SOLVER.OPT", name, "must be one of") for name in ("LBFGS", "SparseAdam", "Muon", "Optimizer")),
]  # fmt: skip


@pytest.mark.parametrize(("key", "value", "rule"), BAD, ids=[f"{key}={value}" for key, value, _ in BAD])
def test_a_number_that_makes_no_sense_is_refused_with_key_rule_and_value(key, value, rule):
    opts = ("INPUT.SIZE_TRAIN", "[32, 16]", "INPUT.PADDING.ENABLED", True, "INPUT.PADDING.SIZE", 4)
    cfg = tiny_config(*opts)
    cfg.defrost()
    node, _, leaf = key.rpartition(".")
    if isinstance(value, float):  # a command line has no NaN, a yaml file has
        getter(cfg)(node)[leaf] = value
    else:
        cfg.merge_from_list([key, value])
    with pytest.raises(InputError) as error:
        check_switchablecompat_config(cfg), check_training_sizes(cfg)
    text = str(error.value)
    assert text.startswith(f"{key}: must ")
    assert rule in text
    assert "\n" not in text


SIZES = ("INPUT.SIZE_TRAIN", "[64, 32]", "INPUT.SIZE_TEST", "[64, 32]", "INPUT.CROP.ENABLED", True)
NO_PADDING = ("INPUT.PADDING.ENABLED", False)


@pytest.mark.parametrize(
    ("opts", "rule"),
    [
        ((), "must fit into INPUT.SIZE_TEST [64, 32], found [224, 224]"),  # CROP.ENABLED alone
        (("INPUT.CROP.SIZE", "[64, 33]"), "must fit into INPUT.SIZE_TEST"),
        (("INPUT.SIZE_TEST", "[96, 48]", "INPUT.CROP.SIZE", "[80, 32]"), "must fit into INPUT.SIZE_TRAIN [64, 32]"),
        (("INPUT.CROP.SIZE", "[32]"), "height and width"),
        (("INPUT.CROP.SIZE", "[0, 32]"), "height and width"),
        (("INPUT.CROP.SIZE", "['a', 32]"), "height and width"),
        (("INPUT.CROP.SIZE", "[48, 24]", "INPUT.PADDING.ENABLED", True), "must be INPUT.SIZE_TRAIN [64, 32] with"),
    ],
)
def test_a_crop_that_does_not_fit_the_sizes_is_refused(opts, rule):
    with pytest.raises(InputError) as error:
        check_training_sizes(tiny_config(*NO_PADDING, *SIZES, *opts))
    assert str(error.value).startswith("INPUT.CROP.SIZE: ")
    assert rule in str(error.value)


@pytest.mark.parametrize("crop", ["[64, 32]", "[48, 24]", "[64, 16]"])
def test_a_crop_that_fits_leaves_no_black_and_is_seen_alike_in_training_and_test(crop):
    cfg = tiny_config(*NO_PADDING, *SIZES, "INPUT.CROP.SIZE", crop, "INPUT.REA.ENABLED", False)
    check_training_sizes(cfg)
    white = Image.new("RGB", (50, 100), "white")
    shapes = set()
    for is_train in (True, False):
        seen = build_transforms(cfg, is_train)(white)
        assert seen.min() == 255
        shapes.add(tuple(seen.shape))
    assert len(shapes) == 1


@pytest.mark.parametrize(
    ("opts", "key"),
    [
        (("SOLVER.OPT", "SGD", "SOLVER.NESTEROV", True, "SOLVER.MOMENTUM", 0.0), "SOLVER.NESTEROV"),
        ((*ALONE, BATCH, 1), BATCH),
    ],
)
def test_settings_that_do_not_go_together(opts, key):
    with pytest.raises(InputError, match=f"^{key}: "):
        tiny_config(*opts)


@pytest.mark.parametrize(("batch", "processes", "norm", "fits"), [
    (8, 8, "BN", False), (8, 4, "BN", True), (8, 8, "syncBN", True), (4, 3, "BN", False), (2, 1, "BN", True),
])  # fmt: skip
def test_a_process_needs_two_images_for_batch_norm(batch, processes, norm, fits):
    cfg = tiny_config(*ALONE, BATCH, batch, "MODEL.HEADS.NORM", norm)
    if fits:
        return check_share(cfg, processes)
    with pytest.raises(InputError, match=rf"must be at least {2 * processes} on {processes} process"):
        check_share(cfg, processes)


def test_a_batch_of_one_needs_no_batch_norm():
    tiny_config(*ALONE, BATCH, 1, "MODEL.HEADS.WITH_BNNECK", False)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_that_is_offered_steps(name):
    model = tiny_model("SOLVER.OPT", name)
    optimizer, _ = SwitchableTrainer.build_optimizer(tiny_config("SOLVER.OPT", name), model)
    before = [p.detach().clone() for p in model.parameters()]
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    optimizer.step()
    moved = [not torch.equal(old, p) for old, p in zip(before, model.parameters(), strict=True) if p.requires_grad]
    assert all(moved)
    assert all(p.isfinite().all() for p in model.parameters())


def test_a_run_is_evaluated_whatever_its_augmentation_was():
    cfg = tiny_config()
    cfg.defrost()
    cfg.INPUT.FLIP.PROB, cfg.SOLVER.GAMMA = 7.0, 7.0
    strip_training(cfg)
    cfg.INPUT.CROP.ENABLED = True  # but this is what test pictures look like
    with pytest.raises(InputError, match=r"INPUT\.CROP\.SIZE: must fit into"):
        strip_training(cfg)


def test_edges_of_the_ranges_are_allowed():
    edges = (("INPUT.CJ.HUE", (0.0, 0.5)), ("INPUT.FLIP.PROB", (0.0, 1.0)), ("SOLVER.GAMMA", (1.0,)),
             ("SOLVER.WARMUP_FACTOR", (0.0, 1.0)), ("INPUT.CROP.SCALE", ("[1, 1]",)), ("SOLVER.STEPS", ("[]",)),
             ("INPUT.REA.VALUE", ("[0]", "[255.0, 0, 1]")), ("INPUT.PADDING.SIZE", (0,)))  # fmt: skip
    for key, value in itertools.chain.from_iterable(((key, v) for v in values) for key, values in edges):
        tiny_config(key, value)
