"""What a config must not say, and no component of it can know alone: every other rule is where a component is built."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from fastreid.config import CfgNode as CN  # noqa: N817  (FastReID's own abbreviation)
from fastreid.layers import any_softmax, pooling

from .config_ranges import check_ranges_of_inputs
from .config_unread import reference_readers, single, value_of
from .errors import InputError
from .layers.width_switch import check_widths
from .own_losses import OWN_LOSSES

OUR_LOSSES = ("CompatibleLoss", "InfluenceLoss", "AsymmetricLoss", "DistillationLoss")
OTHER_LOSSES = ("TripletLoss", "CircleLoss", "Cosface")
LOWEST_LOGIT = -5.0  # of the right class at a cosine of 0: exp(-5) is 2 % of the stable preset's prior
# What a step of ours cannot drive: it has no closure to compute a loss again, gradients are dense and of any shape.
NO_OPTIMIZERS = ("Optimizer", "LBFGS", "SparseAdam", "Muon")
OPTIMIZERS = sorted(
    name
    for name, item in vars(torch.optim).items()
    if isinstance(item, type) and issubclass(item, torch.optim.Optimizer) and name not in NO_OPTIMIZERS
)
# SetReWeightSampler is none of them: it asks for cameras 0, 1, ... in training items, FastReID's data sets give names.
IDENTITY_SAMPLERS = ("NaiveIdentitySampler", "BalancedIdentitySampler")


def check_config(cfg: CN) -> None:
    """Refuse settings that contradict each other.

    Raises:
        InputError: Key, rule and the value found.
    """
    _check_model(cfg)
    _check_losses(cfg)
    _check_evidence(cfg)
    _check_compatibility(cfg)
    _check_solver(cfg)
    _check_numbers(cfg)
    check_ranges_of_inputs(cfg)
    _check_test(cfg)


def single_width(cfg: CN) -> bool:
    """Whether the config trains a network of one width."""
    return single(lambda key: value_of(cfg, key))


def one_of(cfg: CN, key: str, options: Sequence[str]) -> None:
    """Refuse a value that is not among its options."""
    value = value_of(cfg, key)
    if value not in options:
        raise InputError(key, f"must be one of {list(options)}", repr(value))


def _check_model(cfg: CN) -> None:
    model = cfg.MODEL
    one_of(cfg, "MODEL.META_ARCHITECTURE", ["SwitchableBaseline"])
    one_of(cfg, "MODEL.BACKBONE.NAME", ["build_switchable_backbone"])
    one_of(cfg, "MODEL.HEADS.NAME", ["SwitchableEmbeddingHead"])
    widths, only = check_widths(model.SWITCHABLE.WIDTHS), model.SWITCHABLE.ONLY_WIDTH
    if only and not any(abs(only - width) < 1e-9 for width in widths):
        rule = f"must be 0.0 (all widths) or one of MODEL.SWITCHABLE.WIDTHS {list(widths)}"
        raise InputError("MODEL.SWITCHABLE.ONLY_WIDTH", rule, only)
    if model.SWITCHABLE.BACKBONE == "build_switchable_backbone":
        raise InputError("MODEL.SWITCHABLE.BACKBONE", "must name the ordinary builder", model.SWITCHABLE.BACKBONE)
    if model.SWITCHABLE.CHANNEL_DIVISOR < 1:
        raise InputError("MODEL.SWITCHABLE.CHANNEL_DIVISOR", "must be at least 1", model.SWITCHABLE.CHANNEL_DIVISOR)
    one_of(cfg, "MODEL.SWITCHABLE.SUBMODEL_START", ["slices", "fresh", "calibrated"])
    one_of(cfg, "MODEL.BACKBONE.NORM", ["BN", "syncBN"])
    one_of(cfg, "MODEL.HEADS.NORM", ["BN", "syncBN"])
    one_of(cfg, "MODEL.HEADS.CLS_LAYER", any_softmax.__all__)
    one_of(cfg, "MODEL.HEADS.POOL_LAYER", pooling.__all__)
    one_of(cfg, "MODEL.HEADS.NECK_FEAT", ["before", "after"])
    if model.HEADS.EMBEDDING_DIM <= 0 and not single_width(cfg):
        rule = "must be positive: sub-models need features of one dimension"
        raise InputError("MODEL.HEADS.EMBEDDING_DIM", rule, model.HEADS.EMBEDDING_DIM)


def _check_losses(cfg: CN) -> None:
    names, node = cfg.MODEL.LOSSES.NAME, cfg.MODEL.LOSSES.COMPAT
    if "CompatibleLoss" not in names:
        rule = "must hold CompatibleLoss (COMPAT.KIND ce makes it the plain cross-entropy)"
        raise InputError("MODEL.LOSSES.NAME", rule, tuple(names))
    known = (*OUR_LOSSES, *OTHER_LOSSES, *OWN_LOSSES)
    unknown = [name for name in names if name not in known]
    if unknown:
        rule = f"may hold {', '.join(known)}"
        if "CrossEntropyLoss" in unknown:
            rule += "; CompatibleLoss with COMPAT.KIND ce is the cross-entropy"
        raise InputError("MODEL.LOSSES.NAME", rule, tuple(names))
    distill = cfg.MODEL.LOSSES.DISTILL
    one_of(cfg, "MODEL.LOSSES.DISTILL.KIND", ["logits", "features"])
    for name in ("SCALE", "TEMPERATURE"):
        if distill[name] <= 0:
            raise InputError(f"MODEL.LOSSES.DISTILL.{name}", "must be positive", distill[name])
    if distill.KIND == "features" and {"DistillationLoss", "AsymmetricLoss"} <= {*names}:
        rule = "must not hold DistillationLoss of KIND features beside AsymmetricLoss, whose reg it is"
        raise InputError("MODEL.LOSSES.NAME", rule, tuple(names))
    if "DistillationLoss" in names and single_width(cfg):
        rule = "must not hold DistillationLoss for a network of one width: its full model has nobody to teach"
        raise InputError("MODEL.LOSSES.NAME", rule, tuple(names))
    if node.PRIORITY and (node.KIND != "evidential" or node.SUBMODELS != "all"):
        rule = "must be 0.0 without an evidential loss on all sub-models: there is no uncertainty to follow"
        raise InputError("MODEL.LOSSES.COMPAT.PRIORITY", rule, node.PRIORITY)


def _check_evidence(cfg: CN) -> None:
    """Refuse margins that leave no evidence for the right class where training starts, at a cosine of 0.

    Evidence is ``exp`` (or ``softplus``) of a logit, and so is the gradient that pulls a feature and its class vector
    together. The cross-entropy has no such floor: it sees differences of logits only.
    """
    heads, node = cfg.MODEL.HEADS, cfg.MODEL.LOSSES.COMPAT
    scale, margin = heads.SCALE, heads.MARGIN
    logit = {
        "Linear": 0.0,
        "ArcSoftmax": -scale * math.sin(margin),
        "CosSoftmax": -scale * margin,
        "CircleSoftmax": -scale * (1 - margin**2),
    }[heads.CLS_LAYER]
    if node.KIND == "evidential" and logit < LOWEST_LOGIT * node.TEMPERATURE:
        rule = (
            f"must not start with a logit of {logit:.0f} for the right class (SCALE {scale}, MARGIN {margin}), which "
            "is no evidence and has no gradient; take Linear, a smaller SCALE or MARGIN, or MODEL.LOSSES.COMPAT.KIND ce"
        )
        raise InputError("MODEL.HEADS.CLS_LAYER", rule, heads.CLS_LAYER)


def _check_compatibility(cfg: CN) -> None:
    """The influence and the asymmetric loss, the reference, and who has which loss."""
    names, losses, reference = cfg.MODEL.LOSSES.NAME, cfg.MODEL.LOSSES, cfg.MODEL.REFERENCE
    key = "MODEL.LOSSES.ASYMMETRIC"
    one_of(cfg, f"{key}.KIND", ["reg", "contr", "contr_plus", "triplet"])
    one_of(cfg, f"{key}.TEACHER", ["reference", "full"])
    one_of(cfg, "MODEL.LOSSES.COMPAT.SUBMODELS", ["all", "full"])
    for name, value in (
        ("MODEL.LOSSES.INFLUENCE.SCALE", losses.INFLUENCE.SCALE),
        (f"{key}.SCALE", losses.ASYMMETRIC.SCALE),
        (f"{key}.MARGIN", losses.ASYMMETRIC.MARGIN),
    ):
        if value <= 0:
            raise InputError(name, "must be positive", value)

    if "AsymmetricLoss" in names and losses.ASYMMETRIC.TEACHER == "full" and single_width(cfg):
        rule = "must be reference for a network of one width (ONLY_WIDTH, or WIDTHS [1.0]): it has no others"
        raise InputError(f"{key}.TEACHER", rule, "full")
    readers = reference_readers(lambda other: value_of(cfg, other))
    if readers and not reference.WEIGHTS:
        rule = f"must name the checkpoint of a trained model, which {' and '.join(readers)} needs"
        raise InputError("MODEL.REFERENCE.WEIGHTS", rule, repr(""))
    teaching = {"InfluenceLoss", "AsymmetricLoss"} & set(names)
    if losses.COMPAT.SUBMODELS == "full" and not single_width(cfg) and not teaching:
        rule = "must be all where neither InfluenceLoss nor AsymmetricLoss makes the other sub-models compatible"
        raise InputError("MODEL.LOSSES.COMPAT.SUBMODELS", rule, "full")


def _check_solver(cfg: CN) -> None:
    one_of(cfg, "SOLVER.OPT", OPTIMIZERS)
    one_of(cfg, "SOLVER.AMP.DTYPE", ["float16", "bfloat16"])
    one_of(cfg, "SOLVER.SCHED", ["MultiStepLR", "CosineAnnealingLR"])
    if not 0 < cfg.SOLVER.BASE_LR < math.inf:
        raise InputError("SOLVER.BASE_LR", "must be positive", cfg.SOLVER.BASE_LR)
    one_of(cfg, "SOLVER.WARMUP_METHOD", ["constant", "linear", "exp"])
    one_of(cfg, "DATALOADER.SAMPLER_TRAIN", ["TrainingSampler", "ImbalancedDatasetSampler", *IDENTITY_SAMPLERS])
    if cfg.SEED >= 2**31:
        raise InputError("SEED", "must be below 2**31", cfg.SEED)
    for key, value in (
        ("SOLVER.MAX_EPOCH", cfg.SOLVER.MAX_EPOCH),
        ("SOLVER.CHECKPOINT_PERIOD", cfg.SOLVER.CHECKPOINT_PERIOD),
        ("TEST.EVAL_PERIOD", cfg.TEST.EVAL_PERIOD),
        ("SOLVER.IMS_PER_BATCH", cfg.SOLVER.IMS_PER_BATCH),
        ("TEST.IMS_PER_BATCH", cfg.TEST.IMS_PER_BATCH),
    ):
        if value < 1:
            raise InputError(key, "must be at least 1", value)
    batch, instances = cfg.SOLVER.IMS_PER_BATCH, cfg.DATALOADER.NUM_INSTANCE
    if cfg.DATALOADER.SAMPLER_TRAIN in IDENTITY_SAMPLERS and (instances < 1 or batch % instances):
        raise InputError("SOLVER.IMS_PER_BATCH", f"must be a multiple of DATALOADER.NUM_INSTANCE ({instances})", batch)
    if "ManifestReID" in (*cfg.DATASETS.NAMES, *cfg.DATASETS.TESTS) and not cfg.DATASETS.MANIFEST:
        raise InputError("DATASETS.MANIFEST", "must name a CSV file when ManifestReID is used", repr(""))


def _check_numbers(cfg: CN) -> None:
    """FastReID's own keys with values that end a run by a traceback of torch or Pillow."""
    model, solver = cfg.MODEL, cfg.SOLVER
    try:
        kind = torch.device(model.DEVICE).type
    except RuntimeError:
        kind = "unknown"
    if kind not in ("cpu", "cuda"):
        raise InputError("MODEL.DEVICE", "must be cpu, cuda or cuda:N", repr(model.DEVICE))
    for name in ("SIZE_TRAIN", "SIZE_TEST"):
        size = list(cfg.INPUT[name])
        if len(size) != 2 or not all(type(side) is int and side > 0 for side in size):
            raise InputError(f"INPUT.{name}", "must be height and width in pixels", size)
    for name in ("PIXEL_MEAN", "PIXEL_STD"):
        values = list(model[name])
        numbers = len(values) == 3 and all(type(value) in (int, float) and math.isfinite(value) for value in values)
        if not numbers or (name == "PIXEL_STD" and min(values) <= 0):
            rule = "must be three numbers" + (" above 0" if name == "PIXEL_STD" else "")
            raise InputError(f"MODEL.{name}", rule, values)
    check_ranges(
        ("MODEL.HEADS.NUM_CLASSES", model.HEADS.NUM_CLASSES, 0, math.inf),
        ("MODEL.BACKBONE.LAST_STRIDE", model.BACKBONE.LAST_STRIDE, 1, math.inf),
        ("DATALOADER.NUM_WORKERS", cfg.DATALOADER.NUM_WORKERS, 0, math.inf),
        ("SOLVER.MOMENTUM", solver.MOMENTUM, 0, 1),
        ("SOLVER.WEIGHT_DECAY", solver.WEIGHT_DECAY, 0, math.inf),
        ("SOLVER.WARMUP_ITERS", solver.WARMUP_ITERS, 0, math.inf),
        ("SOLVER.ETA_MIN_LR", solver.ETA_MIN_LR, 0, math.inf),
    )


def check_ranges(*ranges: tuple[str, float, float, float]) -> None:
    """Refuse a value outside its range; each is key, value, least and greatest."""
    for key, value, low, high in ranges:
        if not low <= value <= high:  # false for NaN too
            rule = f"must be at least {low}" if high == math.inf else f"must be between {low} and {high}"
            raise InputError(key, rule, value)


def _check_test(cfg: CN) -> None:
    if not cfg.DATASETS.TESTS:
        raise InputError("DATASETS.TESTS", "must name a data set to evaluate on", tuple(cfg.DATASETS.TESTS))
    if cfg.TEST.METRIC != "cosine":
        rule = "must be cosine: sub-models' feature lengths are not comparable"
        raise InputError("TEST.METRIC", rule, repr(cfg.TEST.METRIC))
    aqe, rerank = cfg.TEST.AQE, cfg.TEST.RERANK
    check_ranges(
        ("TEST.GALLERY_DRAWS", cfg.TEST.GALLERY_DRAWS, 1, math.inf),
        ("TEST.AQE.QE_K", aqe.QE_K, 1, math.inf),
        ("TEST.AQE.QE_TIME", aqe.QE_TIME, 1, math.inf),
        ("TEST.AQE.ALPHA", aqe.ALPHA, 0, math.inf),
        ("TEST.RERANK.K1", rerank.K1, 1, math.inf),
        ("TEST.RERANK.K2", rerank.K2, 1, rerank.K1),
        ("TEST.RERANK.LAMBDA", rerank.LAMBDA, 0, 1),
    )
    if cfg.TEST.PRECISE_BN.ENABLED and cfg.TEST.PRECISE_BN.NUM_ITER < 1:
        raise InputError("TEST.PRECISE_BN.NUM_ITER", "must be at least 1", cfg.TEST.PRECISE_BN.NUM_ITER)
