"""Rules that involve several config keys. Rules of a single key are in ``config_rules.py``."""

import math

from fastreid.config import CfgNode as CN  # noqa: N817  (FastReID's own abbreviation)

from .config_rules import IDENTITY_SAMPLERS, PIXELS, RULES, between, check_rules
from .config_unread import getter, reference_readers, single
from .errors import InputError
from .layers.width_switch import check_widths
from .own_losses import FASTREID_LOSSES, OUR_LOSSES, OWN_LOSSES

CLAMPING = ("GeneralizedMeanPooling", "GeneralizedMeanPoolingP", "ClipGlobalAvgPool")
LOWEST_LOGIT = -5.0  # logit of the right class at a cosine of 0: exp(-5) is 2 % of the stable preset's prior


def check_switchablecompat_config(cfg: CN) -> None:
    """Reject settings that make no sense or contradict each other (InputError), before anything is built."""
    check_rules(cfg, RULES)
    _check_model(cfg)
    _check_losses(cfg)
    _check_evidence(cfg)
    _check_compatibility(cfg)
    _check_solver(cfg)
    _check_sizes(cfg)
    check_share(cfg, 1)
    check_rules(cfg, {"TEST.RERANK.K2": between(1, cfg.TEST.RERANK.K1)})
    if cfg.TEST.PRECISE_BN.ENABLED or cfg.MODEL.SWITCHABLE.SUBMODEL_START == "calibrated":
        check_rules(cfg, {"TEST.PRECISE_BN.NUM_ITER": between(1)})


def single_width(cfg: CN) -> bool:
    """Whether the config trains a network of one width."""
    return single(getter(cfg))


def _check_model(cfg: CN) -> None:
    model = cfg.MODEL
    widths, only = check_widths(model.SWITCHABLE.WIDTHS), model.SWITCHABLE.ONLY_WIDTH
    if only and not any(abs(only - width) < 1e-9 for width in widths):
        rule = f"must be 0.0 (all widths) or one of MODEL.SWITCHABLE.WIDTHS {list(widths)}"
        raise InputError("MODEL.SWITCHABLE.ONLY_WIDTH", rule, only)
    if model.SWITCHABLE.BACKBONE == "build_vit_backbone" and model.HEADS.POOL_LAYER in CLAMPING:
        rule = "must be Identity for a vision transformer: its features are signed, and this sets negative ones to 0"
        raise InputError("MODEL.HEADS.POOL_LAYER", rule, model.HEADS.POOL_LAYER)
    if model.HEADS.EMBEDDING_DIM <= 0 and not single_width(cfg):
        rule = "must be positive: sub-models need features of one dimension"
        raise InputError("MODEL.HEADS.EMBEDDING_DIM", rule, model.HEADS.EMBEDDING_DIM)


def _check_losses(cfg: CN) -> None:
    names, node = cfg.MODEL.LOSSES.NAME, cfg.MODEL.LOSSES.COMPAT
    if "CompatibleLoss" not in names:
        rule = "must hold CompatibleLoss (COMPAT.KIND ce makes it the plain cross-entropy)"
        raise InputError("MODEL.LOSSES.NAME", rule, tuple(names))
    known = (*OUR_LOSSES, *FASTREID_LOSSES, *OWN_LOSSES)
    unknown = [name for name in names if name not in known]
    if unknown:
        rule = f"may hold {', '.join(known)}"
        if "CrossEntropyLoss" in unknown:
            rule += "; CompatibleLoss with COMPAT.KIND ce is the cross-entropy"
        raise InputError("MODEL.LOSSES.NAME", rule, tuple(names))
    if cfg.MODEL.LOSSES.DISTILL.KIND == "features" and {"DistillationLoss", "AsymmetricLoss"} <= {*names}:
        rule = "must not hold DistillationLoss of KIND features beside AsymmetricLoss, whose reg it is"
        raise InputError("MODEL.LOSSES.NAME", rule, tuple(names))
    if "DistillationLoss" in names and single_width(cfg):
        rule = "must not hold DistillationLoss for a network of one width: its full model has nobody to teach"
        raise InputError("MODEL.LOSSES.NAME", rule, tuple(names))
    if node.PRIORITY and (node.KIND != "evidential" or node.SUBMODELS != "all"):
        rule = "must be 0.0 without an evidential loss on all sub-models: there is no uncertainty to follow"
        raise InputError("MODEL.LOSSES.COMPAT.PRIORITY", rule, node.PRIORITY)


def _check_evidence(cfg: CN) -> None:
    """Reject margins that leave no evidence for the right class at the start of training, at a cosine of 0.

    Evidence is ``exp`` (or ``softplus``) of a logit. The gradient that pulls a feature and its class vector together
    scales in the same way. Cross-entropy has no such floor, because it depends only on differences of logits.
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
    """Check the influence and the asymmetric loss, the reference, and which sub-models have which loss."""
    names, losses, reference = cfg.MODEL.LOSSES.NAME, cfg.MODEL.LOSSES, cfg.MODEL.REFERENCE
    if "AsymmetricLoss" in names and losses.ASYMMETRIC.TEACHER == "full" and single_width(cfg):
        rule = "must be reference for a network of one width (ONLY_WIDTH, or WIDTHS [1.0]): it has no others"
        raise InputError("MODEL.LOSSES.ASYMMETRIC.TEACHER", rule, "full")
    readers = reference_readers(getter(cfg))
    if readers and not reference.WEIGHTS:
        rule = f"must name the checkpoint of a trained model, which {' and '.join(readers)} needs"
        raise InputError("MODEL.REFERENCE.WEIGHTS", rule, repr(""))
    teaching = {"InfluenceLoss", "AsymmetricLoss"} & set(names)
    if losses.COMPAT.SUBMODELS == "full" and not single_width(cfg) and not teaching:
        rule = "must be all where neither InfluenceLoss nor AsymmetricLoss makes the other sub-models compatible"
        raise InputError("MODEL.LOSSES.COMPAT.SUBMODELS", rule, "full")


def _check_solver(cfg: CN) -> None:
    batch, instances = cfg.SOLVER.IMS_PER_BATCH, cfg.DATALOADER.NUM_INSTANCE
    if cfg.DATALOADER.SAMPLER_TRAIN in IDENTITY_SAMPLERS and (instances < 1 or batch % instances):
        raise InputError("SOLVER.IMS_PER_BATCH", f"must be a multiple of DATALOADER.NUM_INSTANCE ({instances})", batch)
    if "ManifestReID" in (*cfg.DATASETS.NAMES, *cfg.DATASETS.TESTS) and not cfg.DATASETS.MANIFEST:
        raise InputError("DATASETS.MANIFEST", "must name a CSV file when ManifestReID is used", repr(""))
    if cfg.SOLVER.OPT == "SGD" and cfg.SOLVER.NESTEROV and not cfg.SOLVER.MOMENTUM:
        raise InputError("SOLVER.NESTEROV", "needs a SOLVER.MOMENTUM above 0", True)


def check_share(cfg: CN, processes: int) -> None:
    """Reject a batch that gives a process a single image if the head's batch norm needs two."""
    batch, heads = cfg.SOLVER.IMS_PER_BATCH, cfg.MODEL.HEADS
    together = processes > 1 and heads.NORM == "syncBN"
    if heads.WITH_BNNECK and not together and batch // processes < 2:
        rule = f"must be at least {2 * processes} on {processes} process(es): batch norm needs two images in each"
        raise InputError("SOLVER.IMS_PER_BATCH", rule, batch)


def _check_sizes(cfg: CN) -> None:
    """Check sizes for testing: FastReID resizes to SIZE_TEST, then cuts CROP.SIZE from the centre.

    A crop that is larger than the image gets black borders.
    """
    if cfg.INPUT.CROP.ENABLED:
        check_rules(cfg, {"INPUT.CROP.SIZE": PIXELS})
        _check_fit(list(cfg.INPUT.CROP.SIZE), "SIZE_TEST", cfg)


def check_training_sizes(cfg: CN) -> None:
    """Reject sizes with which the network would see only a corner of an image, or its padding.

    FastReID resizes to SIZE_TRAIN, crops to CROP.SIZE, pads, and crops to SIZE_TRAIN.
    """
    train = list(cfg.INPUT.SIZE_TRAIN)
    crop, padding = cfg.INPUT.CROP, cfg.INPUT.PADDING
    if crop.ENABLED:
        _check_fit(list(crop.SIZE), "SIZE_TRAIN", cfg)
        if padding.ENABLED and list(crop.SIZE) != train:
            rule = f"must be INPUT.SIZE_TRAIN {train} with INPUT.PADDING.ENABLED, which cuts that size out of it again"
            raise InputError("INPUT.CROP.SIZE", rule, list(crop.SIZE))
    if padding.ENABLED and min(train) <= padding.SIZE:
        rule = f"must be below the shorter side of INPUT.SIZE_TRAIN {train}, or pictures may be all padding"
        raise InputError("INPUT.PADDING.SIZE", rule, padding.SIZE)


def _check_fit(size: list[int], name: str, cfg: CN) -> None:
    outer = list(cfg.INPUT[name])
    if any(inner > side for inner, side in zip(size, outer, strict=True)):
        raise InputError("INPUT.CROP.SIZE", f"must fit into INPUT.{name} {outer}", size)
