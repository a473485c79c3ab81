"""Config keys of the plug-in, and loading."""

import os
from collections.abc import Callable, Sequence
from typing import Any

import yaml
from fastreid.config import CfgNode as CN  # noqa: N817  (FastReID's own abbreviation)
from fastreid.config import get_cfg

from .config_check import check_switchablecompat_config
from .errors import InputError
from .files import shipped


def add_switchablecompat_config(cfg: CN) -> CN:
    """Add the plug-in's keys and their defaults to a FastReID config, in place, and return it."""
    # Name of the method in results: one of the literature, or your own. Empty: "custom"
    cfg.METHOD = ""
    # Seed of all random choices: initial weights, sampler, augmentation, projection orders. Negative: the run draws and
    # records a seed.
    cfg.SEED = -1

    # ---- The switchable network -------------------------------------------------------------------------------
    cfg.MODEL.SWITCHABLE = CN()
    # Width multipliers w_1 < ... < w_m of the sub-models. The last one must be 1.0, the full model.
    cfg.MODEL.SWITCHABLE.WIDTHS = [0.25, 0.5, 0.75, 1.0]
    # FastReID's builder of the backbone to convert. (MODEL.BACKBONE.NAME names our builder, which calls it.)
    cfg.MODEL.SWITCHABLE.BACKBONE = "build_resnet_backbone"
    # Channel counts of sub-models are multiples of this number. 1: plain rounding
    cfg.MODEL.SWITCHABLE.CHANNEL_DIVISOR = 8
    # Whose losses train the shared classifier W. options: all (sub-models), full (only the full model), certain (all
    # sub-models; the share of each in a class vector follows its certainty of that class)
    cfg.MODEL.SWITCHABLE.CLASSIFIER_GRAD = "all"
    # Class vectors W. options: learned, simplex (fixed vertices of a regular simplex; needs EMBEDDING_DIM >= K - 1)
    cfg.MODEL.SWITCHABLE.CLASSIFIER = "learned"
    # Factor on the losses of each sub-model, in the order of WIDTHS. Empty: 1 for each
    cfg.MODEL.SWITCHABLE.LOSS_WEIGHTS = []
    # Head start of the full model: the loss factors of other sub-models rise from 0 over this share (0 to 1) of the
    # training.
    cfg.MODEL.SWITCHABLE.SLOW_START = 0.0
    # Sandwich rule: each step trains the full model, the smallest one, and this many others, drawn at random. 0: all
    cfg.MODEL.SWITCHABLE.SANDWICH = 0
    # Initial norm layers of narrow widths if a pretrained file has none for them. (Their convolutions are always slices
    # of the full model's.) options: slices (leading channels of the full model's norms, statistics included), fresh
    # (scale 1, shift 0, mean 0, variance 1), calibrated (slices, with the statistics of TEST.PRECISE_BN.NUM_ITER
    # training batches)
    cfg.MODEL.SWITCHABLE.SUBMODEL_START = "slices"
    # Train only the sub-model of this width (one of WIDTHS), as an independent network without shared weights.
    # MODEL.BACKBONE.FEAT_DIM remains that of the full model. 0.0: train all widths
    cfg.MODEL.SWITCHABLE.ONLY_WIDTH = 0.0
    # Store weights in channels-last memory format; activations follow, except those of IBN. Results differ only by
    # rounding. Whether this is faster depends on the machine (docs/speed.md).
    cfg.MODEL.SWITCHABLE.CHANNELS_LAST = False
    # Compile the backbone for training. options: none, default, cudagraphs (nothing compiled, all kernels of a width
    # launched at once: on a GPU that waits for launches), reduce-overhead (both), aot_eager (traced only: a check).
    # Where it fails, a warning says so.
    cfg.MODEL.SWITCHABLE.COMPILE = "none"

    # ---- The reference: a trained, frozen model to be compatible with. Only its full model is used --------------
    cfg.MODEL.REFERENCE = CN()
    # yaml of its run, by this plug-in or FastReID's Baseline. Empty: the checkpoint's settings, or its config.yaml
    cfg.MODEL.REFERENCE.CONFIG_FILE = ""
    # Its checkpoint, for example model_final.pth in its OUTPUT_DIR. Empty: no reference
    cfg.MODEL.REFERENCE.WEIGHTS = ""

    # ---- The compatible loss: "CompatibleLoss" in MODEL.LOSSES.NAME -------------------------------------------
    cfg.MODEL.LOSSES.COMPAT = CN()
    # options: evidential (with uncertainty estimation), ce (plain cross-entropy)
    cfg.MODEL.LOSSES.COMPAT.KIND = "evidential"
    # Settings of the evidential loss as a whole. options: stable, paper, custom (uses the seven keys below)
    cfg.MODEL.LOSSES.COMPAT.PRESET = "stable"
    # Evidence function sigma, e = sigma(z). options: softplus, exp
    cfg.MODEL.LOSSES.COMPAT.EVIDENCE = "exp"
    # Bayes risk. options: digamma (psi(S) - psi(alpha_y)), log (ln S - ln alpha_y)
    cfg.MODEL.LOSSES.COMPAT.RISK = "log"
    # Prior mass P. options of PRIOR_UNIT: classes (P = PRIOR * K), absolute (P = PRIOR)
    cfg.MODEL.LOSSES.COMPAT.PRIOR = 1.0 / 3.0
    cfg.MODEL.LOSSES.COMPAT.PRIOR_UNIT = "classes"
    # Weight lambda of the KL term. options of KL_UNIT: per_class (lambda = KL_WEIGHT / K), absolute
    cfg.MODEL.LOSSES.COMPAT.KL_WEIGHT = 0.0
    cfg.MODEL.LOSSES.COMPAT.KL_UNIT = "per_class"
    # Sub-models with the KL term. options: all, full (only the full model, to whose classifier the others adapt)
    cfg.MODEL.LOSSES.COMPAT.KL_SUBMODELS = "all"
    # Temperature that divides the logits before the evidence function.
    cfg.MODEL.LOSSES.COMPAT.TEMPERATURE = 1.0
    # Exponent of the certainties in the shares of CLASSIFIER_GRAD certain. With a large one the most certain sub-model
    # trains a class vector alone. 1.0: shares in proportion to certainty
    cfg.MODEL.LOSSES.COMPAT.CERTAINTY_POWER = 1000.0
    # gamma: a sub-model's loss factor is its mean uncertainty to this power, relative to the others. 0.0: factor 1
    cfg.MODEL.LOSSES.COMPAT.PRIORITY = 0.0
    # Factor on the compatible loss.
    cfg.MODEL.LOSSES.COMPAT.SCALE = 1.0
    # Sub-models with this loss. options: all, full (another loss must then make the others compatible)
    cfg.MODEL.LOSSES.COMPAT.SUBMODELS = "all"

    # ---- The influence loss of BCT: "InfluenceLoss" in MODEL.LOSSES.NAME --------------------------------------
    cfg.MODEL.LOSSES.INFLUENCE = CN()
    # lambda: factor on the classification loss that uses the reference's frozen classifier.
    cfg.MODEL.LOSSES.INFLUENCE.SCALE = 1.0

    # ---- The asymmetric loss of AML: "AsymmetricLoss" in MODEL.LOSSES.NAME ------------------------------------
    cfg.MODEL.LOSSES.ASYMMETRIC = CN()
    # options: reg, contr, contr_plus (their sum), triplet
    cfg.MODEL.LOSSES.ASYMMETRIC.KIND = "contr_plus"
    # gamma: factor on the loss.
    cfg.MODEL.LOSSES.ASYMMETRIC.SCALE = 1.0
    # contr and contr_plus: Euclidean distance beyond which negatives have no loss. triplet: margin on 2 - 2 cos
    # (commonly 0.3).
    cfg.MODEL.LOSSES.ASYMMETRIC.MARGIN = 0.7
    # Source of the target features. options: reference (MODEL.REFERENCE), full (this network's own full model)
    cfg.MODEL.LOSSES.ASYMMETRIC.TEACHER = "reference"

    # ---- In-place distillation: "DistillationLoss" in MODEL.LOSSES.NAME ---------------------------------------
    cfg.MODEL.LOSSES.DISTILL = CN()
    # What smaller sub-models learn from the full model. options: logits (soft labels), features (cosine)
    cfg.MODEL.LOSSES.DISTILL.KIND = "features"
    # Factor on the loss.
    cfg.MODEL.LOSSES.DISTILL.SCALE = 2.0
    # Temperature T of the soft labels.
    cfg.MODEL.LOSSES.DISTILL.TEMPERATURE = 1.0

    # ---- Aggregation of the sub-models' gradients -------------------------------------------------------------
    cfg.SOLVER.AGGREGATION = CN()
    # options: projection (conflicting gradients are projected to the orthogonal direction), sum; and of TorchJD (extra
    # torchjd) gradvac, cagrad, mgda, upgrad, imtl_g: one Gram matrix at a time, so prefer GRANULARITY layer for them
    cfg.SOLVER.AGGREGATION.NAME = "projection"
    # Parameters over which projection compares two gradients. options: pairwise (those that both sub-models own), full
    # (all). The other methods always compare all
    cfg.SOLVER.AGGREGATION.SUPPORT = "pairwise"
    # Group of parameters to aggregate at a time. options: global, layer, tensor, filter (an output channel of a
    # layer, with its bias), none (plain sum)
    cfg.SOLVER.AGGREGATION.GRANULARITY = "filter"
    # The same for the shared classifier, where each class vector is a filter. Empty: the value of GRANULARITY.
    # With layer or tensor, the shares of CLASSIFIER_GRAD certain are means over the classes
    cfg.SOLVER.AGGREGATION.CLASSIFIER_GRANULARITY = ""
    # Which aggregated gradients are divided by the number of sub-models that train the element, so that it learns at
    # the rate of one network. options: none (plain sum), classifier, all (every element of every shared parameter)
    cfg.SOLVER.AGGREGATION.MEAN = "none"
    # Projection: which sub-models give up what conflicts. options: none (is protected: all do), full (model is: the
    # others give up what conflicts with it)
    cfg.SOLVER.AGGREGATION.PROTECT = "none"
    # Projection: weight of the past in the running mean of the inner products, in [0, 1). 0.0: the current batch only
    cfg.SOLVER.AGGREGATION.MEMORY = 0.95
    # gradvac: weight of the newest cosine in the running target.
    cfg.SOLVER.AGGREGATION.BETA = 0.01
    # cagrad: radius c of the ball around the mean gradient, relative to its norm.
    cfg.SOLVER.AGGREGATION.RADIUS = 0.4

    # Number format of mixed precision (SOLVER.AMP.ENABLED). options: float16 (with a gradient scaler; only on a GPU),
    # bfloat16
    cfg.SOLVER.AMP.DTYPE = "float16"

    # Results are means over this many random galleries with one image per identity (VehicleID's protocol). 1: the
    # gallery of the data set (for VehicleID one draw, the same in all runs)
    cfg.TEST.GALLERY_DRAWS = 1

    # Number format of feature extraction. options: float32, bfloat16, float16 (only on a GPU).
    # tools/compare_precision.py measures the difference in every cell
    cfg.TEST.PRECISION = "float32"

    # CSV file (path, pid, camid, split) of the data set ManifestReID.
    cfg.DATASETS.MANIFEST = ""
    # Keep decoded, resized training images in memory, in every loader process. For small data sets on a CPU: after the
    # first epoch no file is read.
    cfg.DATALOADER.KEEP_IMAGES = False
    return cfg


def load_config(config_file: str, opts: Sequence[str] = ()) -> CN:
    """Load a config: FastReID's defaults, our keys, a yaml file if one is named, and ``KEY VALUE`` pairs.

    The file may use FastReID's ``_BASE_``. The result is checked and frozen.

    Raises:
        InputError: Missing file, invalid yaml, unknown key, wrong type, or settings that contradict each other.
    """
    cfg = merge_config(config_file, opts)
    check_switchablecompat_config(cfg)
    cfg.freeze()
    return cfg


def merge_config(config_file: str, opts: Sequence[str] = (), file_key: str = "--config-file") -> CN:
    """Merge a config as :func:`load_config` does, without checking or freezing it; for other architectures.

    ``file_key`` names the setting in the message about a missing file.
    """
    config_file = shipped(config_file)
    if config_file and not os.path.isfile(config_file):
        raise InputError(file_key, "must be an existing yaml file", config_file)
    return _merged(lambda: CN.load_yaml_with_base(config_file) if config_file else {}, config_file, opts)


def merge_kept(text: str, where: str, opts: Sequence[str] = ()) -> CN:
    """Merge the config that a checkpoint stores as yaml, as :func:`merge_config` does for a file.

    ``where`` names the checkpoint in messages.
    """
    return _merged(lambda: yaml.safe_load(text), where, opts)


def _merged(load: Callable[[], Any], where: str, opts: Sequence[str]) -> CN:
    """The defaults, with the nested dict that ``load`` returns, and overrides."""
    cfg = add_switchablecompat_config(get_cfg())
    try:
        cfg.merge_from_other_cfg(CN(load()))
    except FileNotFoundError as error:
        raise InputError(where, "_BASE_ must be an existing file", error.filename) from None
    except RecursionError:
        raise InputError(where, "must not be its own _BASE_") from None
    except (KeyError, ValueError, AssertionError, TypeError, AttributeError, OSError, yaml.YAMLError) as error:
        raise InputError(where, "must be a valid config", _one_line(error)) from None
    if len(opts) % 2:
        raise InputError("KEY VALUE overrides", "must come in pairs", " ".join(opts))
    for key, value in zip(opts[::2], opts[1::2], strict=True):
        try:
            cfg.merge_from_list([key, value])
        except (KeyError, ValueError, AssertionError, AttributeError, TypeError, RecursionError) as error:
            raise InputError(key, "must be an existing key with a value of its type", _one_line(error)) from None
    return cfg


def _one_line(error: BaseException) -> str:
    text = error.args[0] if error.args and isinstance(error.args[0], str) else str(error)
    return " ".join(text.split())
