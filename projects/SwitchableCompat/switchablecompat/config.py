"""Config keys of the plug-in, and loading."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import yaml
from fastreid.config import CfgNode as CN  # noqa: N817  (FastReID's own abbreviation)
from fastreid.config import get_cfg

from .config_check import check_config
from .errors import InputError
from .files import shipped

# Keys of earlier versions, and what they are now.
REPLACED = {
    "MODEL.SWITCHABLE.SLOW_START_ITERS": "MODEL.SWITCHABLE.SLOW_START, a share of the training (0.5 for half of it)",
    "SOLVER.AGGREGATION.PROJECT_CLASSIFIER": "SOLVER.AGGREGATION.CLASSIFIER_GRANULARITY none, instead of False",
}


def add_switchablecompat_config(cfg: CN) -> CN:
    """Add the plug-in's keys, with their defaults, to a FastReID config; returns ``cfg``."""
    # What the method is called in results: a name of the literature, or one of your own. Empty: custom
    cfg.METHOD = ""
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
    # Whose loss trains the shared classifier W. options: all (sub-models), full (model only), certain (all, each with a
    # share by its certainty of the class)
    cfg.MODEL.SWITCHABLE.CLASSIFIER_GRAD = "full"
    # Class vectors W. options: learned, simplex (fixed vertices of a regular one; EMBEDDING_DIM >= classes - 1)
    cfg.MODEL.SWITCHABLE.CLASSIFIER = "learned"
    # Factor on the losses of each sub-model, in the order of WIDTHS. Empty: 1 for all
    cfg.MODEL.SWITCHABLE.LOSS_WEIGHTS = []
    # Head start of the full model: share of the training, 0 to 1, over which the factors of the others rise from 0.
    cfg.MODEL.SWITCHABLE.SLOW_START = 0.0
    # Sandwich rule: a step trains the full model, the smallest and this many of the others, drawn at random. 0: all
    cfg.MODEL.SWITCHABLE.SANDWICH = 0
    # What the norm layers of narrow widths start from where a pretrained file has none for them; their convolutions are
    # slices of the full model's. options: slices (of the full model's norms, statistics included), fresh (affine 1 and
    # 0, statistics 0 and 1), calibrated (slices, with the statistics of TEST.PRECISE_BN.NUM_ITER training batches)
    cfg.MODEL.SWITCHABLE.SUBMODEL_START = "slices"
    # Train only the sub-model of this width, as an independent network with no shared weights; one of WIDTHS.
    # MODEL.BACKBONE.FEAT_DIM stays that of the full network. 0.0: all widths
    cfg.MODEL.SWITCHABLE.ONLY_WIDTH = 0.0
    # Keep weights, and so activations (but for those of IBN), channels last in memory: the same numbers but for
    # rounding, and faster where the machine's convolutions prefer it (a fifth, thin ResNet on a CPU with AVX-512).
    cfg.MODEL.SWITCHABLE.CHANNELS_LAST = False

    # ---- A trained model to be compatible with, frozen: its full model is used ---------------------------------
    cfg.MODEL.REFERENCE = CN()
    # yaml of its run, of this plug-in or of FastReID's Baseline. Empty: what the checkpoint keeps, or config.yaml there
    cfg.MODEL.REFERENCE.CONFIG_FILE = ""
    # Its checkpoint (model_final.pth in its OUTPUT_DIR). Empty: no reference
    cfg.MODEL.REFERENCE.WEIGHTS = ""

    # ---- The compatible loss: "CompatibleLoss" in MODEL.LOSSES.NAME -------------------------------------------
    cfg.MODEL.LOSSES.COMPAT = CN()
    # options: evidential (with uncertainty estimation), ce (plain cross-entropy)
    cfg.MODEL.LOSSES.COMPAT.KIND = "evidential"
    # The evidential loss as a whole. options: stable, paper, custom (then the seven keys below count)
    cfg.MODEL.LOSSES.COMPAT.PRESET = "stable"
    # Evidence function sigma, e = sigma(z). options: softplus, exp
    cfg.MODEL.LOSSES.COMPAT.EVIDENCE = "exp"
    # Bayes risk. options: digamma (psi(S) - psi(alpha_y)), log (ln S - ln alpha_y)
    cfg.MODEL.LOSSES.COMPAT.RISK = "log"
    # Prior mass P. options for the unit: classes (P = PRIOR * K), absolute (P = PRIOR)
    cfg.MODEL.LOSSES.COMPAT.PRIOR = 1.0 / 3.0
    cfg.MODEL.LOSSES.COMPAT.PRIOR_UNIT = "classes"
    # Weight lambda of the KL term. options for the unit: per_class (lambda = KL_WEIGHT / K), absolute
    cfg.MODEL.LOSSES.COMPAT.KL_WEIGHT = 0.0
    cfg.MODEL.LOSSES.COMPAT.KL_UNIT = "per_class"
    # Which sub-models have the KL term. options: all, full (model only, whose classifier the others meet)
    cfg.MODEL.LOSSES.COMPAT.KL_SUBMODELS = "all"
    # Logits are divided by it before they become evidence.
    cfg.MODEL.LOSSES.COMPAT.TEMPERATURE = 1.0
    # Power of the certainties in the shares of CLASSIFIER_GRAD certain.
    cfg.MODEL.LOSSES.COMPAT.CERTAINTY_POWER = 1.0
    # gamma: the losses of a sub-model count by its mean uncertainty to this power, relative to the others'. 0.0: alike
    cfg.MODEL.LOSSES.COMPAT.PRIORITY = 0.0
    # Factor on the compatible loss.
    cfg.MODEL.LOSSES.COMPAT.SCALE = 1.0
    # Which sub-models have it. options: all, full (model only; another loss must make the others compatible)
    cfg.MODEL.LOSSES.COMPAT.SUBMODELS = "all"

    # ---- The influence loss of BCT: "InfluenceLoss" in MODEL.LOSSES.NAME --------------------------------------
    cfg.MODEL.LOSSES.INFLUENCE = CN()
    # lambda: factor on the classification loss through the reference's frozen classifier.
    cfg.MODEL.LOSSES.INFLUENCE.SCALE = 1.0

    # ---- The asymmetric loss of AML: "AsymmetricLoss" in MODEL.LOSSES.NAME ------------------------------------
    cfg.MODEL.LOSSES.ASYMMETRIC = CN()
    # options: reg, contr, contr_plus (their sum), triplet
    cfg.MODEL.LOSSES.ASYMMETRIC.KIND = "contr_plus"
    # gamma: factor on the loss.
    cfg.MODEL.LOSSES.ASYMMETRIC.SCALE = 1.0
    # contr and contr_plus: Euclidean distance beyond which negatives are left alone. triplet: on 2 - 2 cos (0.3 is
    # the value in use).
    cfg.MODEL.LOSSES.ASYMMETRIC.MARGIN = 0.7
    # Whose features attract. options: reference (MODEL.REFERENCE), full (this network's own full model)
    cfg.MODEL.LOSSES.ASYMMETRIC.TEACHER = "reference"

    # ---- In-place distillation: "DistillationLoss" in MODEL.LOSSES.NAME ---------------------------------------
    cfg.MODEL.LOSSES.DISTILL = CN()
    # What the smaller sub-models take from the full one. options: logits (soft labels), features (cosine)
    cfg.MODEL.LOSSES.DISTILL.KIND = "features"
    # Factor on the loss.
    cfg.MODEL.LOSSES.DISTILL.SCALE = 0.5
    # T of the soft labels.
    cfg.MODEL.LOSSES.DISTILL.TEMPERATURE = 1.0

    # ---- Aggregation of the sub-models' gradients -------------------------------------------------------------
    cfg.SOLVER.AGGREGATION = CN()
    # options: projection (conflicting gradients are projected to the orthogonal direction), sum, gradvac, cagrad, mgda,
    # upgrad, imtl_g, cgi
    cfg.SOLVER.AGGREGATION.NAME = "projection"
    # Over what two sub-models' gradients are compared. options: pairwise (what both own), full (everything); of
    # projection, the others compare everything
    cfg.SOLVER.AGGREGATION.SUPPORT = "pairwise"
    # What is compared at a time. options: global, layer, tensor, filter (an output channel of a layer, with its bias),
    # none (all is summed)
    cfg.SOLVER.AGGREGATION.GRANULARITY = "filter"
    # The same for the shared classifier, of which each class vector is a filter. Empty: as GRANULARITY says
    cfg.SOLVER.AGGREGATION.CLASSIFIER_GRANULARITY = ""
    # What is divided by the number of sub-models that train it, and so learns at the rate of one network's.
    # options: none (the plain sum), classifier, all (every element of every shared parameter)
    cfg.SOLVER.AGGREGATION.MEAN = "none"
    # Projection: who gives up what conflicts. options: none (is protected: all do), full (model is: the others give up
    # what conflicts with it)
    cfg.SOLVER.AGGREGATION.PROTECT = "none"
    # Projection: share of the past in the running mean of the inner products, in [0, 1). 0.0: every batch on its own
    cfg.SOLVER.AGGREGATION.MEMORY = 0.0
    # gradvac: share of the newest cosine in its running target.
    cfg.SOLVER.AGGREGATION.BETA = 0.01
    # cagrad: radius c of the ball around the mean gradient, relative to its norm. Many rounds of small quadratic
    # programs for every group: with GRANULARITY filter they take longer than the rest of the step.
    cfg.SOLVER.AGGREGATION.RADIUS = 0.4
    # cgi: power p of the confidences.
    cfg.SOLVER.AGGREGATION.POWER = 1.0

    # What mixed precision (SOLVER.AMP.ENABLED) computes in. options: float16 (with a gradient scaler; on a GPU only),
    # bfloat16
    cfg.SOLVER.AMP.DTYPE = "float16"

    # VehicleID's protocol: means over this many galleries of one image per identity, drawn from all test images. 1: the
    # gallery of the data set (of VehicleID: one draw, the same in all runs)
    cfg.TEST.GALLERY_DRAWS = 1

    # What networks compute in when features are extracted. options: float32, bfloat16, float16 (on a GPU only);
    # tools/compare_precision.py measures what it changes in every cell
    cfg.TEST.PRECISION = "float32"

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
    cfg = merge_config(config_file, opts)
    check_switchablecompat_config(cfg)
    cfg.freeze()
    return cfg


def merge_config(
    config_file: str, opts: Sequence[str] = (), file_key: str = "--config-file", *, trained: bool = False
) -> CN:
    """What :func:`load_config` does before it checks and freezes, for configs that are not of our architecture.

    Args:
        config_file: See there.
        opts: See there.
        file_key: What a message about the file's absence names.
        trained: Whether this is the config of a model that exists: keys of earlier versions that say how it was trained
            are then left out, not refused.

    Raises:
        InputError: Missing file, not yaml, unknown key, or wrong type.
    """
    cfg, config_file = add_switchablecompat_config(get_cfg()), shipped(config_file)
    if config_file:
        if not os.path.isfile(config_file):
            raise InputError(file_key, "must be an existing yaml file", config_file)
        _merge(cfg, lambda: CN.load_yaml_with_base(config_file), config_file, trained)
    return _merge_opts(cfg, opts)


def merge_kept(text: str, where: str, opts: Sequence[str] = ()) -> CN:
    """The same for the config that a checkpoint keeps.

    Args:
        text: The config, as yaml.
        where: The checkpoint.
        opts: ``KEY VALUE`` pairs.

    Raises:
        InputError: It is no such text, or the pairs are none.
    """
    cfg = add_switchablecompat_config(get_cfg())
    _merge(cfg, lambda: yaml.safe_load(text), where, trained=True)
    return _merge_opts(cfg, opts)


def _merge(cfg: CN, load: Callable[[], Any], where: str, trained: bool) -> None:
    """Merge a nested dict that ``load`` gives into ``cfg``."""
    try:
        loaded = load()
        if trained:
            _drop_replaced(loaded)
        cfg.merge_from_other_cfg(CN(loaded))
    except FileNotFoundError as error:
        raise InputError(where, "_BASE_ must be an existing file", error.filename) from None
    except RecursionError:
        raise InputError(where, "must not be its own _BASE_") from None
    except (KeyError, ValueError, AssertionError, TypeError, AttributeError, OSError, yaml.YAMLError) as error:
        _refuse_replaced(_one_line(error), f"{where}, ")
        raise InputError(where, "must be a valid config", _one_line(error)) from None


def _merge_opts(cfg: CN, opts: Sequence[str]) -> CN:
    if len(opts) % 2:
        raise InputError("KEY VALUE overrides", "must come in pairs", " ".join(opts))
    for key, value in zip(opts[::2], opts[1::2], strict=True):
        _refuse_replaced(key)
        try:
            cfg.merge_from_list([key, value])
        except (KeyError, ValueError, AssertionError, AttributeError, TypeError, RecursionError) as error:
            raise InputError(key, "must be an existing key with a value of its type", _one_line(error)) from None
    return cfg


def _drop_replaced(loaded: dict[str, Any]) -> None:
    for key in REPLACED:
        *nodes, leaf = key.split(".")
        node: Any = loaded
        for name in nodes:
            node = node.get(name, {})
        node.pop(leaf, None)


def _refuse_replaced(text: str, where: str = "") -> None:
    """Say what a key of an earlier version is now; ``text`` is the key, or a message that ends with it."""
    for key, now in REPLACED.items():
        if text.endswith(key):
            raise InputError(f"{where}{key}", f"is now {now}")


def check_switchablecompat_config(cfg: CN) -> None:
    """Refuse settings that contradict each other, before anything is built.

    Raises:
        InputError: Key, rule and the value found.
    """
    check_config(cfg)


def _one_line(error: BaseException) -> str:
    text = error.args[0] if error.args and isinstance(error.args[0], str) else str(error)
    return " ".join(text.split())
