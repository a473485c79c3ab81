"""Config keys of the plug-in, loading, and the check that every run starts with."""

from __future__ import annotations

import os
from collections.abc import Sequence

import yaml
from fastreid.config import CfgNode as CN  # noqa: N817  (FastReID's own abbreviation)
from fastreid.config import get_cfg
from fastreid.layers import any_softmax, pooling

from .errors import InputError
from .layers.width_switch import check_widths

CUSTOM_KEYS = ("EVIDENCE", "RISK", "PRIOR", "PRIOR_UNIT", "KL_WEIGHT", "KL_UNIT")
OTHER_LOSSES = ("TripletLoss", "CircleLoss", "Cosface")
IDENTITY_SAMPLERS = ("NaiveIdentitySampler", "BalancedIdentitySampler", "SetReWeightSampler")


def add_switchablecompat_config(cfg: CN) -> CN:
    """Add the plug-in's keys, with their defaults, to a FastReID config; returns ``cfg``."""
    # Seed of everything random: initial weights, sampler, augmentation, projection orders. Negative: drawn at the
    # start of the run and recorded.
    cfg.SEED = -1

    # ---- The switchable network -------------------------------------------------------------------------------
    cfg.MODEL.SWITCHABLE = CN()
    # Width multipliers w_1 < ... < w_m of the sub-models; the last one is 1.0, the full model.
    cfg.MODEL.SWITCHABLE.WIDTHS = [0.25, 0.5, 0.75, 1.0]
    # The ordinary FastReID backbone builder whose network is converted (MODEL.BACKBONE.NAME names ours).
    cfg.MODEL.SWITCHABLE.BACKBONE = "build_resnet_backbone"
    # Channel counts of sub-models are multiples of this; 1 is plain rounding.
    cfg.MODEL.SWITCHABLE.CHANNEL_DIVISOR = 8
    # Whose loss trains the shared classifier W. options: all (sub-models), full (model only)
    cfg.MODEL.SWITCHABLE.CLASSIFIER_GRAD = "full"

    # ---- The compatible loss: "CompatibleLoss" in MODEL.LOSSES.NAME -------------------------------------------
    cfg.MODEL.LOSSES.COMPAT = CN()
    # options: evidential (with uncertainty estimation), ce (plain cross-entropy)
    cfg.MODEL.LOSSES.COMPAT.KIND = "evidential"
    # The evidential loss as a whole. options: stable, paper, custom (then the six keys below count)
    cfg.MODEL.LOSSES.COMPAT.PRESET = "stable"
    # Evidence function sigma, e = sigma(z). options: softplus, exp
    cfg.MODEL.LOSSES.COMPAT.EVIDENCE = "exp"
    # Bayes risk. options: digamma (psi(S) - psi(alpha_y)), log (ln S - ln alpha_y)
    cfg.MODEL.LOSSES.COMPAT.RISK = "log"
    # Prior mass P. options for the unit: classes (P = PRIOR * K), absolute (P = PRIOR)
    cfg.MODEL.LOSSES.COMPAT.PRIOR = 0.33
    cfg.MODEL.LOSSES.COMPAT.PRIOR_UNIT = "classes"
    # Weight lambda of the KL term. options for the unit: per_class (lambda = KL_WEIGHT / K), absolute
    cfg.MODEL.LOSSES.COMPAT.KL_WEIGHT = 0.4
    cfg.MODEL.LOSSES.COMPAT.KL_UNIT = "per_class"
    # Logits are divided by it before they become evidence.
    cfg.MODEL.LOSSES.COMPAT.TEMPERATURE = 1.0
    # Factor on the compatible loss.
    cfg.MODEL.LOSSES.COMPAT.SCALE = 1.0

    # ---- Aggregation of the sub-models' gradients -------------------------------------------------------------
    cfg.SOLVER.AGGREGATION = CN()
    # options: projection (conflicting gradients are projected to the orthogonal direction), sum
    cfg.SOLVER.AGGREGATION.NAME = "projection"
    # Over what two sub-models' gradients are compared. options: pairwise (what both own), full (everything)
    cfg.SOLVER.AGGREGATION.SUPPORT = "pairwise"
    # What is compared at a time. options: global, layer, tensor
    cfg.SOLVER.AGGREGATION.GRANULARITY = "layer"
    # Whether the shared classifier's gradient is aggregated too, or just summed.
    cfg.SOLVER.AGGREGATION.PROJECT_CLASSIFIER = True

    # CSV (path, pid, camid, split) of the data set ManifestReID.
    cfg.DATASETS.MANIFEST = ""
    return cfg


def load_config(config_file: str, opts: Sequence[str] = ()) -> CN:
    """FastReID's config with our keys, a file and command-line overrides merged in; checked and frozen.

    Args:
        config_file: A yaml file, with FastReID's ``_BASE_``; empty for the defaults alone.
        opts: ``KEY VALUE`` pairs.

    Raises:
        InputError: Missing file, not yaml, unknown key, wrong type, or settings that contradict each other.
    """
    cfg = add_switchablecompat_config(get_cfg())
    if config_file:
        if not os.path.isfile(config_file):
            raise InputError("--config-file", "must be an existing yaml file", config_file)
        try:
            cfg.merge_from_file(config_file)
        except FileNotFoundError as error:
            raise InputError(config_file, "_BASE_ must be an existing file", error.filename) from None
        except (KeyError, ValueError, AssertionError, TypeError, AttributeError, yaml.YAMLError) as error:
            raise InputError(config_file, "must be a valid config", _one_line(error)) from None
    if len(opts) % 2:
        raise InputError("KEY VALUE overrides", "must come in pairs", " ".join(opts))
    for key, value in zip(opts[::2], opts[1::2], strict=True):
        try:
            cfg.merge_from_list([key, value])
        except (KeyError, ValueError, AssertionError, AttributeError) as error:
            raise InputError(key, "must be an existing key with a value of its type", _one_line(error)) from None
    check_switchablecompat_config(cfg)
    cfg.freeze()
    return cfg


def check_switchablecompat_config(cfg: CN) -> None:
    """Refuse settings that contradict each other, before anything is built.

    Raises:
        InputError: Key, rule and the value found.
    """
    _check_model(cfg)
    _check_losses(cfg)
    _check_solver(cfg)
    _check_test(cfg)


def method_name(cfg: CN) -> str:
    """The field's name of what this config trains, from its loss and its aggregation."""
    evidential = cfg.MODEL.LOSSES.COMPAT.KIND == "evidential"
    projected = cfg.SOLVER.AGGREGATION.NAME == "projection"
    return {
        (True, True): "sfsc",
        (False, True): "sfsc_no_uncertainty",
        (True, False): "sfsc_no_projection",
        (False, False): "bct_s",
    }[evidential, projected]


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
    check_widths(model.SWITCHABLE.WIDTHS)
    if model.SWITCHABLE.BACKBONE == "build_switchable_backbone":
        raise InputError("MODEL.SWITCHABLE.BACKBONE", "must name the ordinary builder", model.SWITCHABLE.BACKBONE)
    if model.SWITCHABLE.CHANNEL_DIVISOR < 1:
        raise InputError("MODEL.SWITCHABLE.CHANNEL_DIVISOR", "must be at least 1", model.SWITCHABLE.CHANNEL_DIVISOR)
    _one_of(cfg, "MODEL.SWITCHABLE.CLASSIFIER_GRAD", ["all", "full"])
    _one_of(cfg, "MODEL.BACKBONE.NORM", ["BN", "syncBN"])
    _one_of(cfg, "MODEL.HEADS.NORM", ["BN", "syncBN"])
    _one_of(cfg, "MODEL.HEADS.CLS_LAYER", any_softmax.__all__)
    _one_of(cfg, "MODEL.HEADS.POOL_LAYER", pooling.__all__)
    _one_of(cfg, "MODEL.HEADS.NECK_FEAT", ["before", "after"])
    if model.HEADS.EMBEDDING_DIM <= 0 and len(model.SWITCHABLE.WIDTHS) > 1:
        rule = "must be positive: sub-models need features of one dimension"
        raise InputError("MODEL.HEADS.EMBEDDING_DIM", rule, model.HEADS.EMBEDDING_DIM)


def _check_losses(cfg: CN) -> None:
    names, node, key = cfg.MODEL.LOSSES.NAME, cfg.MODEL.LOSSES.COMPAT, "MODEL.LOSSES.COMPAT"
    if "CompatibleLoss" not in names:
        rule = "must hold CompatibleLoss (COMPAT.KIND ce makes it the plain cross-entropy)"
        raise InputError("MODEL.LOSSES.NAME", rule, tuple(names))
    unknown = [name for name in names if name not in ("CompatibleLoss", *OTHER_LOSSES)]
    if unknown:
        rule = f"may hold CompatibleLoss, {', '.join(OTHER_LOSSES)}"
        if "CrossEntropyLoss" in unknown:
            rule += "; CompatibleLoss with COMPAT.KIND ce is the cross-entropy"
        raise InputError("MODEL.LOSSES.NAME", rule, tuple(names))
    _one_of(cfg, f"{key}.KIND", ["evidential", "ce"])
    _one_of(cfg, f"{key}.PRESET", ["stable", "paper", "custom"])
    _one_of(cfg, f"{key}.EVIDENCE", ["softplus", "exp"])
    _one_of(cfg, f"{key}.RISK", ["digamma", "log"])
    _one_of(cfg, f"{key}.PRIOR_UNIT", ["classes", "absolute"])
    _one_of(cfg, f"{key}.KL_UNIT", ["per_class", "absolute"])
    for name, rule, bad in (
        ("PRIOR", "must be positive", node.PRIOR <= 0),
        ("KL_WEIGHT", "must not be negative", node.KL_WEIGHT < 0),
        ("TEMPERATURE", "must be positive", node.TEMPERATURE <= 0),
        ("SCALE", "must be positive", node.SCALE <= 0),
    ):
        if bad:
            raise InputError(f"{key}.{name}", rule, node[name])
    if node.KIND == "evidential" and node.PRESET != "custom":
        defaults = add_switchablecompat_config(get_cfg()).MODEL.LOSSES.COMPAT
        for name in CUSTOM_KEYS:
            if node[name] != defaults[name]:
                raise InputError(
                    f"{key}.{name}", f"is read with PRESET custom only, not with {node.PRESET}", node[name]
                )
    epsilon = cfg.MODEL.LOSSES.CE.EPSILON
    if node.KIND == "evidential" and not 0 <= epsilon < 1:
        raise InputError("MODEL.LOSSES.CE.EPSILON", "must be in [0, 1) with an evidential loss", epsilon)


def _check_solver(cfg: CN) -> None:
    _one_of(cfg, "SOLVER.AGGREGATION.NAME", ["sum", "projection"])
    _one_of(cfg, "SOLVER.AGGREGATION.SUPPORT", ["full", "pairwise"])
    _one_of(cfg, "SOLVER.AGGREGATION.GRANULARITY", ["global", "layer", "tensor"])
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


def _check_test(cfg: CN) -> None:
    if cfg.TEST.METRIC != "cosine":
        rule = "must be cosine: sub-models' feature lengths are not comparable"
        raise InputError("TEST.METRIC", rule, repr(cfg.TEST.METRIC))
    for name in ("AQE", "RERANK", "ROC"):
        if cfg.TEST[name].ENABLED:
            raise InputError(f"TEST.{name}.ENABLED", "is not part of the compatibility grid", True)
    if cfg.TEST.PRECISE_BN.ENABLED and cfg.TEST.PRECISE_BN.NUM_ITER < 1:
        raise InputError("TEST.PRECISE_BN.NUM_ITER", "must be at least 1", cfg.TEST.PRECISE_BN.NUM_ITER)


def _one_line(error: BaseException) -> str:
    text = error.args[0] if error.args and isinstance(error.args[0], str) else str(error)
    return " ".join(text.split())
