"""Rules of single config keys, independent of other keys, and the table of the rules that every config must meet."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from fastreid.config import CfgNode as CN  # noqa: N817  (FastReID's own abbreviation)
from fastreid.layers import any_softmax, pooling

from .config_unread import getter
from .errors import InputError

Rule = tuple[str, Callable[[Any], bool]]  # the rule as a message states it, and whether a value meets it

# Optimizers that our training step cannot drive: it has no closure that computes the loss again, and its gradients are
# dense and of any shape.
NO_OPTIMIZERS = ("Optimizer", "LBFGS", "SparseAdam", "Muon")
OPTIMIZERS = sorted(
    name
    for name, item in vars(torch.optim).items()
    if isinstance(item, type) and issubclass(item, torch.optim.Optimizer) and name not in NO_OPTIMIZERS
)
# SetReWeightSampler is not among them: it expects cameras 0, 1, ... in training items, but FastReID's data sets give
# names.
IDENTITY_SAMPLERS = ("NaiveIdentitySampler", "BalancedIdentitySampler")


def one_of(*options: str) -> Rule:
    """The rule that a value is one of these words."""
    return f"must be one of {list(options)}", lambda value: value in options


def between(low: float, high: float = math.inf) -> Rule:
    """The rule that a value is a number in the closed range, or at least ``low``."""
    text = f"must be at least {low}" if high == math.inf else f"must be between {low} and {high}"
    return text, lambda value: _number(value) and low <= value <= high


def check_rules(cfg: CN, rules: Mapping[str, Rule], node: str = "") -> None:
    """Reject the first value that breaks its rule (InputError); ``node`` is the prefix of the keys, with its dot."""
    for key, (text, keeps) in rules.items():
        value = getter(cfg)(node + key)
        if not keeps(value):
            raise InputError(node + key, text, repr(value))


def _number(value: Any) -> bool:
    return type(value) in (int, float) and not math.isnan(value)


def _ascending(least: float, greatest: float) -> Callable[[Any], bool]:
    """Whether a value holds two ascending numbers above ``least`` and up to ``greatest``."""
    return lambda v: len(v) == 2 and all(map(_number, v)) and least < v[0] <= v[1] <= greatest


def _whole(values: Any) -> bool:
    return all(type(value) is int and value >= 1 for value in values)


def _three(values: Any) -> bool:
    return len(values) == 3 and all(_number(value) and math.isfinite(value) for value in values)


def _device(name: str) -> bool:
    try:
        return torch.device(name).type in ("cpu", "cuda")
    except RuntimeError:
        return False


POSITIVE: Rule = ("must be positive", lambda value: value > 0)  # false for NaN too
NOT_NEGATIVE: Rule = ("must be a finite number, not negative", lambda value: _number(value) and 0 <= value < math.inf)
PIXELS: Rule = ("must be height and width in pixels", lambda value: len(value) == 2 and _whole(value))

RULES: Mapping[str, Rule] = {
    "SEED": ("must be below 2**31", lambda value: value < 2**31),
    "MODEL.META_ARCHITECTURE": one_of("SwitchableBaseline"),
    "MODEL.DEVICE": ("must be cpu, cuda or cuda:N", _device),
    "MODEL.PIXEL_MEAN": ("must be three numbers", _three),
    "MODEL.PIXEL_STD": ("must be three numbers above 0", lambda value: _three(value) and min(value) > 0),
    "MODEL.BACKBONE.NAME": one_of("build_switchable_backbone"),
    "MODEL.BACKBONE.NORM": one_of("BN", "syncBN"),
    "MODEL.BACKBONE.LAST_STRIDE": between(1),
    "MODEL.SWITCHABLE.BACKBONE": ("must name the ordinary builder", lambda name: name != "build_switchable_backbone"),
    "MODEL.SWITCHABLE.CHANNEL_DIVISOR": between(1),
    "MODEL.SWITCHABLE.SUBMODEL_START": one_of("slices", "fresh", "calibrated"),
    "MODEL.SWITCHABLE.COMPILE": one_of("none", "default", "cudagraphs", "reduce-overhead", "aot_eager"),
    "MODEL.SWITCHABLE.SLOW_START": between(0, 1),
    "MODEL.HEADS.NAME": one_of("SwitchableEmbeddingHead"),
    "MODEL.HEADS.NORM": one_of("BN", "syncBN"),
    "MODEL.HEADS.CLS_LAYER": one_of(*any_softmax.__all__),
    "MODEL.HEADS.POOL_LAYER": one_of(*pooling.__all__),
    "MODEL.HEADS.NECK_FEAT": one_of("before", "after"),
    "MODEL.HEADS.NUM_CLASSES": between(0),
    "MODEL.LOSSES.COMPAT.SUBMODELS": one_of("all", "full"),
    "MODEL.LOSSES.INFLUENCE.SCALE": POSITIVE,
    "MODEL.LOSSES.ASYMMETRIC.KIND": one_of("reg", "contr", "contr_plus", "triplet"),
    "MODEL.LOSSES.ASYMMETRIC.TEACHER": one_of("reference", "full"),
    "MODEL.LOSSES.ASYMMETRIC.SCALE": POSITIVE,
    "MODEL.LOSSES.ASYMMETRIC.MARGIN": POSITIVE,
    "MODEL.LOSSES.DISTILL.KIND": one_of("logits", "features"),
    "MODEL.LOSSES.DISTILL.SCALE": POSITIVE,
    "MODEL.LOSSES.DISTILL.TEMPERATURE": POSITIVE,
    **{f"INPUT.{name}.PROB": between(0, 1) for name in ("FLIP", "CJ", "AUTOAUG", "AUGMIX", "REA", "RPT")},
    **{f"INPUT.CJ.{name}": NOT_NEGATIVE for name in ("BRIGHTNESS", "CONTRAST", "SATURATION")},
    "INPUT.SIZE_TRAIN": PIXELS,
    "INPUT.SIZE_TEST": PIXELS,
    "INPUT.CJ.HUE": between(0, 0.5),
    "INPUT.PADDING.MODE": one_of("constant", "edge", "reflect", "symmetric"),  # torchvision's
    "INPUT.PADDING.SIZE": ("must be a number of pixels, not negative", lambda value: value >= 0),
    "INPUT.REA.VALUE": (
        "must be one number or three, from 0 to 255",
        lambda value: len(value) in (1, 3) and all(_number(v) and 0 <= v <= 255 for v in value),
    ),
    "INPUT.CROP.SCALE": (
        "must be two ascending shares of the picture's area, above 0 and up to 1", _ascending(0, 1)
    ),
    "INPUT.CROP.RATIO": ("must be two ascending ratios of width to height, above 0", _ascending(0, 1e6)),
    "DATALOADER.SAMPLER_TRAIN": one_of("TrainingSampler", "ImbalancedDatasetSampler", *IDENTITY_SAMPLERS),
    "DATALOADER.NUM_WORKERS": between(0),
    "SOLVER.OPT": one_of(*OPTIMIZERS),
    "SOLVER.BASE_LR": ("must be positive", lambda value: 0 < value < math.inf),
    "SOLVER.MOMENTUM": between(0, 1),
    "SOLVER.AMP.DTYPE": one_of("float16", "bfloat16"),
    "SOLVER.SCHED": one_of("MultiStepLR", "CosineAnnealingLR"),
    "SOLVER.STEPS": ("must be epochs, whole numbers from 1", _whole),
    "SOLVER.GAMMA": ("must be above 0 and up to 1", lambda value: 0 < value <= 1),
    "SOLVER.WARMUP_METHOD": one_of("constant", "linear", "exp"),
    "SOLVER.WARMUP_FACTOR": between(0, 1),
    "SOLVER.WARMUP_ITERS": between(0),
    "SOLVER.MAX_EPOCH": between(1),
    "SOLVER.CHECKPOINT_PERIOD": between(1),
    "SOLVER.IMS_PER_BATCH": between(1),
    **{
        f"SOLVER.{name}": NOT_NEGATIVE
        for name in ("HEADS_LR_FACTOR", "BIAS_LR_FACTOR", "WEIGHT_DECAY", "WEIGHT_DECAY_NORM", "WEIGHT_DECAY_BIAS",
                     "ETA_MIN_LR", "DELAY_EPOCHS", "FREEZE_ITERS")
    },
    "SOLVER.CLIP_GRADIENTS.CLIP_TYPE": one_of("norm", "value"),
    "SOLVER.CLIP_GRADIENTS.CLIP_VALUE": POSITIVE,
    "SOLVER.CLIP_GRADIENTS.NORM_TYPE": POSITIVE,
    "DATASETS.TESTS": ("must name a data set to evaluate on", bool),
    "TEST.METRIC": ("must be cosine: sub-models' feature lengths are not comparable", lambda name: name == "cosine"),
    "TEST.EVAL_PERIOD": between(1),
    "TEST.IMS_PER_BATCH": between(1),
    "TEST.GALLERY_DRAWS": between(1),
    "TEST.AQE.QE_K": between(1),
    "TEST.AQE.QE_TIME": between(1),
    "TEST.AQE.ALPHA": between(0),
    "TEST.RERANK.K1": between(1),
    "TEST.RERANK.LAMBDA": between(0, 1),
}  # fmt: skip
