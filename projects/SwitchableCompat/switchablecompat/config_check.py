"""What a config must not say: every rule that holds before anything is built."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from fastreid.config import CfgNode as CN  # noqa: N817  (FastReID's own abbreviation)
from fastreid.layers import any_softmax, pooling

from .errors import InputError
from .layers.width_switch import check_widths

CUSTOM_KEYS = ("EVIDENCE", "RISK", "PRIOR", "PRIOR_UNIT", "KL_WEIGHT", "KL_UNIT", "KL_SUBMODELS")
OUR_LOSSES = ("CompatibleLoss", "InfluenceLoss", "AsymmetricLoss", "DistillationLoss")
AGGREGATORS = ("sum", "projection", "gradvac", "cagrad", "mgda", "upgrad", "imtl_g", "cgi")
OTHER_LOSSES = ("TripletLoss", "CircleLoss", "Cosface")
LOWEST_LOGIT = -5.0  # of the right class at a cosine of 0: exp(-5) is 2 % of the stable preset's prior
OPTIMIZERS = sorted(
    name
    for name, item in vars(torch.optim).items()
    if isinstance(item, type) and issubclass(item, torch.optim.Optimizer)
)
# SetReWeightSampler is none of them: it asks for cameras 0, 1, ... in training items, FastReID's data sets give names.
IDENTITY_SAMPLERS = ("NaiveIdentitySampler", "BalancedIdentitySampler")


def check_config(cfg: CN, defaults: CN) -> None:
    """Refuse settings that contradict each other.

    Args:
        cfg: The config to check.
        defaults: A config with the plug-in's defaults.

    Raises:
        InputError: Key, rule and the value found.
    """
    _check_model(cfg)
    _check_losses(cfg, defaults)
    _check_evidence(cfg)
    _check_compatibility(cfg)
    _check_solver(cfg)
    _check_numbers(cfg)
    _check_unread(cfg, defaults)
    _check_test(cfg)


def single_width(cfg: CN) -> bool:
    """Whether the config trains a network of one width."""
    return bool(cfg.MODEL.SWITCHABLE.ONLY_WIDTH) or len(cfg.MODEL.SWITCHABLE.WIDTHS) == 1


def _one_of(cfg: CN, key: str, options: Sequence[str]) -> None:
    node = cfg
    for part in key.split("."):
        node = node[part]
    if node not in options:
        raise InputError(key, f"must be one of {list(options)}", repr(node))


def _check_model(cfg: CN) -> None:
    model = cfg.MODEL
    _one_of(cfg, "MODEL.META_ARCHITECTURE", ["SwitchableBaseline"])
    _one_of(cfg, "MODEL.BACKBONE.NAME", ["build_switchable_backbone"])
    _one_of(cfg, "MODEL.HEADS.NAME", ["SwitchableEmbeddingHead"])
    widths, only = check_widths(model.SWITCHABLE.WIDTHS), model.SWITCHABLE.ONLY_WIDTH
    if only and not any(abs(only - width) < 1e-9 for width in widths):
        rule = f"must be 0.0 (all widths) or one of MODEL.SWITCHABLE.WIDTHS {list(widths)}"
        raise InputError("MODEL.SWITCHABLE.ONLY_WIDTH", rule, only)
    if model.SWITCHABLE.BACKBONE == "build_switchable_backbone":
        raise InputError("MODEL.SWITCHABLE.BACKBONE", "must name the ordinary builder", model.SWITCHABLE.BACKBONE)
    if model.SWITCHABLE.CHANNEL_DIVISOR < 1:
        raise InputError("MODEL.SWITCHABLE.CHANNEL_DIVISOR", "must be at least 1", model.SWITCHABLE.CHANNEL_DIVISOR)
    _one_of(cfg, "MODEL.SWITCHABLE.CLASSIFIER_GRAD", ["all", "full", "certain"])
    _one_of(cfg, "MODEL.SWITCHABLE.CLASSIFIER", ["learned", "simplex"])
    _check_step_plan(cfg, len(widths))
    _one_of(cfg, "MODEL.BACKBONE.NORM", ["BN", "syncBN"])
    _one_of(cfg, "MODEL.HEADS.NORM", ["BN", "syncBN"])
    _one_of(cfg, "MODEL.HEADS.CLS_LAYER", any_softmax.__all__)
    _one_of(cfg, "MODEL.HEADS.POOL_LAYER", pooling.__all__)
    _one_of(cfg, "MODEL.HEADS.NECK_FEAT", ["before", "after"])
    if model.HEADS.EMBEDDING_DIM <= 0 and not single_width(cfg):
        rule = "must be positive: sub-models need features of one dimension"
        raise InputError("MODEL.HEADS.EMBEDDING_DIM", rule, model.HEADS.EMBEDDING_DIM)


def _check_step_plan(cfg: CN, count: int) -> None:
    """Which sub-models a step trains, and how much each counts."""
    node = cfg.MODEL.SWITCHABLE
    weights = list(node.LOSS_WEIGHTS)
    positive = all(isinstance(w, int | float) and not isinstance(w, bool) and w > 0 for w in weights)
    if weights and (len(weights) != count or not positive):
        rule = f"must be empty, or one positive factor for each of the {count} widths"
        raise InputError("MODEL.SWITCHABLE.LOSS_WEIGHTS", rule, weights)
    _check_ranges(("MODEL.SWITCHABLE.SLOW_START", node.SLOW_START, 0, 1))
    if not 0 <= node.SANDWICH <= max(count - 2, 0):
        rule = f"must be between 0 and {max(count - 2, 0)}, the widths between the smallest and the full model"
        raise InputError("MODEL.SWITCHABLE.SANDWICH", rule, node.SANDWICH)
    factors = (
        ("MODEL.SWITCHABLE.LOSS_WEIGHTS", weights),
        ("MODEL.SWITCHABLE.SLOW_START", node.SLOW_START),
        ("MODEL.LOSSES.COMPAT.PRIORITY", cfg.MODEL.LOSSES.COMPAT.PRIORITY),
    )
    for key, value in (*factors, ("MODEL.SWITCHABLE.SANDWICH", node.SANDWICH)):
        if value and single_width(cfg):
            raise InputError(
                key, "is not read for a network of one width, which has no others to set it against", value
            )
    for key, value in factors:
        if value and cfg.SOLVER.AGGREGATION.NAME in ("mgda", "imtl_g"):
            rule = f"has no use with SOLVER.AGGREGATION.NAME {cfg.SOLVER.AGGREGATION.NAME}, which undoes such factors"
            raise InputError(key, rule, value)


def _check_losses(cfg: CN, defaults: CN) -> None:
    names, node, key = cfg.MODEL.LOSSES.NAME, cfg.MODEL.LOSSES.COMPAT, "MODEL.LOSSES.COMPAT"
    if "CompatibleLoss" not in names:
        rule = "must hold CompatibleLoss (COMPAT.KIND ce makes it the plain cross-entropy)"
        raise InputError("MODEL.LOSSES.NAME", rule, tuple(names))
    unknown = [name for name in names if name not in (*OUR_LOSSES, *OTHER_LOSSES)]
    if unknown:
        rule = f"may hold {', '.join((*OUR_LOSSES, *OTHER_LOSSES))}"
        if "CrossEntropyLoss" in unknown:
            rule += "; CompatibleLoss with COMPAT.KIND ce is the cross-entropy"
        raise InputError("MODEL.LOSSES.NAME", rule, tuple(names))
    _one_of(cfg, f"{key}.KIND", ["evidential", "ce"])
    _one_of(cfg, f"{key}.PRESET", ["stable", "paper", "custom"])
    _one_of(cfg, f"{key}.EVIDENCE", ["softplus", "exp"])
    _one_of(cfg, f"{key}.RISK", ["digamma", "log"])
    _one_of(cfg, f"{key}.PRIOR_UNIT", ["classes", "absolute"])
    _one_of(cfg, f"{key}.KL_UNIT", ["per_class", "absolute"])
    _one_of(cfg, f"{key}.KL_SUBMODELS", ["all", "full"])
    for name, rule, bad in (
        ("PRIOR", "must be positive", node.PRIOR <= 0),
        ("KL_WEIGHT", "must not be negative", node.KL_WEIGHT < 0),
        ("TEMPERATURE", "must be positive", node.TEMPERATURE <= 0),
        ("SCALE", "must be positive", node.SCALE <= 0),
    ):
        if bad:
            raise InputError(f"{key}.{name}", rule, node[name])
    distill = cfg.MODEL.LOSSES.DISTILL
    _one_of(cfg, "MODEL.LOSSES.DISTILL.KIND", ["logits", "features"])
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
        raise InputError(f"{key}.PRIORITY", rule, node.PRIORITY)
    if cfg.MODEL.LOSSES.CE.SCALE != 1.0:
        rule = f"is not read here; the compatible loss has {key}.SCALE"
        raise InputError("MODEL.LOSSES.CE.SCALE", rule, cfg.MODEL.LOSSES.CE.SCALE)
    if node.KIND != "evidential" or node.PRESET != "custom":
        for name in CUSTOM_KEYS:
            if node[name] != defaults.MODEL.LOSSES.COMPAT[name]:
                raise InputError(
                    f"{key}.{name}",
                    f"is read with KIND evidential and PRESET custom only, not with {node.KIND}, {node.PRESET}",
                    node[name],
                )
    epsilon = cfg.MODEL.LOSSES.CE.EPSILON
    if node.KIND == "evidential" and not 0 <= epsilon < 1:
        raise InputError("MODEL.LOSSES.CE.EPSILON", "must be in [0, 1) with an evidential loss", epsilon)


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
    if node.KIND == "evidential" and logit / node.TEMPERATURE < LOWEST_LOGIT:
        rule = (
            f"must not start with a logit of {logit:.0f} for the right class (SCALE {scale}, MARGIN {margin}), which "
            "is no evidence and has no gradient; take Linear, a smaller SCALE or MARGIN, or MODEL.LOSSES.COMPAT.KIND ce"
        )
        raise InputError("MODEL.HEADS.CLS_LAYER", rule, heads.CLS_LAYER)


def _check_compatibility(cfg: CN) -> None:
    """The influence and the asymmetric loss, the reference, and who has which loss."""
    names, losses, reference = cfg.MODEL.LOSSES.NAME, cfg.MODEL.LOSSES, cfg.MODEL.REFERENCE
    key = "MODEL.LOSSES.ASYMMETRIC"
    _one_of(cfg, f"{key}.KIND", ["reg", "contr", "contr_plus", "triplet"])
    _one_of(cfg, f"{key}.TEACHER", ["reference", "full"])
    _one_of(cfg, "MODEL.LOSSES.COMPAT.SUBMODELS", ["all", "full"])
    for name, value in (
        ("MODEL.LOSSES.INFLUENCE.SCALE", losses.INFLUENCE.SCALE),
        (f"{key}.SCALE", losses.ASYMMETRIC.SCALE),
        (f"{key}.MARGIN", losses.ASYMMETRIC.MARGIN),
    ):
        if value <= 0:
            raise InputError(name, "must be positive", value)

    readers = [name for name in names if name == "InfluenceLoss"]
    if "AsymmetricLoss" in names:
        if losses.ASYMMETRIC.TEACHER == "reference":
            readers.append("AsymmetricLoss (ASYMMETRIC.TEACHER reference)")
        elif single_width(cfg):
            rule = "must be reference for a network of one width (ONLY_WIDTH, or WIDTHS [1.0]): it has no others"
            raise InputError(f"{key}.TEACHER", rule, "full")
    for name, what in (("CONFIG_FILE", "config"), ("WEIGHTS", "checkpoint")):
        if readers and not reference[name]:
            rule = f"must name the {what} of a trained model, which {' and '.join(readers)} needs"
            raise InputError(f"MODEL.REFERENCE.{name}", rule, repr(""))
        if reference[name] and not readers:
            rule = "is read by InfluenceLoss, and by AsymmetricLoss with ASYMMETRIC.TEACHER reference, and by no other"
            raise InputError(f"MODEL.REFERENCE.{name}", rule, repr(reference[name]))
    teaching = {"InfluenceLoss", "AsymmetricLoss"} & set(names)
    if losses.COMPAT.SUBMODELS == "full" and not single_width(cfg) and not teaching:
        rule = "must be all where neither InfluenceLoss nor AsymmetricLoss makes the other sub-models compatible"
        raise InputError("MODEL.LOSSES.COMPAT.SUBMODELS", rule, "full")


def _check_unread(cfg: CN, defaults: CN) -> None:
    """Refuse options of what is not in use: whoever sets them believes in an experiment that does not take place."""
    losses, aggregation, name = cfg.MODEL.LOSSES, cfg.SOLVER.AGGREGATION, cfg.SOLVER.AGGREGATION.NAME
    distilled = "DistillationLoss" in losses.NAME
    for node, unread, key, option, rule in (
        (losses, not distilled, "MODEL.LOSSES", "DISTILL.KIND", "with DistillationLoss only"),
        (losses, not distilled, "MODEL.LOSSES", "DISTILL.SCALE", "with DistillationLoss only"),
        (losses, not distilled or losses.DISTILL.KIND != "logits", "MODEL.LOSSES", "DISTILL.TEMPERATURE",
         "with DistillationLoss of KIND logits only"),
        (aggregation, name != "gradvac", "SOLVER.AGGREGATION", "BETA", "with NAME gradvac only"),
        (aggregation, name != "cagrad", "SOLVER.AGGREGATION", "RADIUS", "with NAME cagrad only"),
        (aggregation, name != "cgi", "SOLVER.AGGREGATION", "POWER", "with NAME cgi only"),
    ):  # fmt: skip
        value, default = node, defaults
        for part in option.split("."):
            value = value[part]
        for part in f"{key}.{option}".split("."):
            default = default[part]
        if unread and value != default:
            raise InputError(f"{key}.{option}", f"is read {rule}", value)


def _check_solver(cfg: CN) -> None:
    _one_of(cfg, "SOLVER.OPT", OPTIMIZERS)
    _one_of(cfg, "SOLVER.AMP.DTYPE", ["float16", "bfloat16"])
    _one_of(cfg, "SOLVER.SCHED", ["MultiStepLR", "CosineAnnealingLR"])
    if not 0 < cfg.SOLVER.BASE_LR < math.inf:
        raise InputError("SOLVER.BASE_LR", "must be positive", cfg.SOLVER.BASE_LR)
    _one_of(cfg, "SOLVER.WARMUP_METHOD", ["constant", "linear", "exp"])
    _one_of(cfg, "DATALOADER.SAMPLER_TRAIN", ["TrainingSampler", "ImbalancedDatasetSampler", *IDENTITY_SAMPLERS])
    if cfg.SEED >= 2**31:
        raise InputError("SEED", "must be below 2**31", cfg.SEED)
    frozen = list(cfg.MODEL.FREEZE_LAYERS)
    if frozen not in ([], ["backbone"], ["heads"]):
        raise InputError("MODEL.FREEZE_LAYERS", "must be [], ['backbone'] or ['heads']", frozen)
    _one_of(cfg, "SOLVER.AGGREGATION.NAME", AGGREGATORS)
    _one_of(cfg, "SOLVER.AGGREGATION.SUPPORT", ["full", "pairwise"])
    _one_of(cfg, "SOLVER.AGGREGATION.GRANULARITY", ["none", "global", "layer", "tensor", "filter"])
    _one_of(cfg, "SOLVER.AGGREGATION.CLASSIFIER_GRANULARITY", ["", "none", "global", "layer", "tensor", "filter"])
    _one_of(cfg, "SOLVER.AGGREGATION.PROTECT", ["none", "full"])
    node = cfg.SOLVER.AGGREGATION
    for key, rule, bad in (
        ("BETA", "must be in [0, 1]", not 0 <= node.BETA <= 1),
        ("RADIUS", "must be in [0, 1)", not 0 <= node.RADIUS < 1),
        ("POWER", "must not be negative", node.POWER < 0),
    ):
        if bad:
            raise InputError(f"SOLVER.AGGREGATION.{key}", rule, node[key])
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
    _check_ranges(
        ("MODEL.HEADS.NUM_CLASSES", model.HEADS.NUM_CLASSES, 0, math.inf),
        ("MODEL.BACKBONE.LAST_STRIDE", model.BACKBONE.LAST_STRIDE, 1, math.inf),
        ("DATALOADER.NUM_WORKERS", cfg.DATALOADER.NUM_WORKERS, 0, math.inf),
        ("SOLVER.MOMENTUM", solver.MOMENTUM, 0, 1),
        ("SOLVER.WEIGHT_DECAY", solver.WEIGHT_DECAY, 0, math.inf),
        ("SOLVER.WARMUP_ITERS", solver.WARMUP_ITERS, 0, math.inf),
        ("SOLVER.ETA_MIN_LR", solver.ETA_MIN_LR, 0, math.inf),
    )


def _check_ranges(*ranges: tuple[str, float, float, float]) -> None:
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
    if cfg.TEST.ROC.ENABLED:
        rule = "is not part of the compatibility grid; tools/report.py has the thresholds of every cell"
        raise InputError("TEST.ROC.ENABLED", rule, True)
    aqe, rerank = cfg.TEST.AQE, cfg.TEST.RERANK
    _check_ranges(
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
