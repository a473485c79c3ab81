"""Settings that features depend on, differences of two configs, and the check that two models' features compare."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from .errors import InputError

# The settings that, beside the weights, determine how an image becomes a feature. Settings that evaluation does not
# read (classifier, losses, dropout, synchronisation of batch norms) are left out, and so are those that only change
# rounding (memory format, precision, device).
FEATURE_KEYS = (
    "MODEL.META_ARCHITECTURE", "MODEL.PIXEL_MEAN", "MODEL.PIXEL_STD",
    "MODEL.BACKBONE.NAME", "MODEL.BACKBONE.DEPTH", "MODEL.BACKBONE.LAST_STRIDE", "MODEL.BACKBONE.STRIDE_SIZE",
    "MODEL.BACKBONE.WITH_IBN", "MODEL.BACKBONE.WITH_SE", "MODEL.BACKBONE.WITH_NL",
    "MODEL.SWITCHABLE.BACKBONE", "MODEL.SWITCHABLE.WIDTHS", "MODEL.SWITCHABLE.ONLY_WIDTH",
    "MODEL.SWITCHABLE.CHANNEL_DIVISOR",
    "MODEL.HEADS.NAME", "MODEL.HEADS.POOL_LAYER", "MODEL.HEADS.EMBEDDING_DIM", "MODEL.HEADS.WITH_BNNECK",
    "MODEL.HEADS.NECK_FEAT",
    "INPUT.SIZE_TEST", "INPUT.CROP.ENABLED", "INPUT.CROP.SIZE",
)  # fmt: skip

# Settings that do not affect the training itself: names and places, what is written and when, the hardware and its
# number formats, and how a test set is evaluated. A resumed run may change only these (and its length, see
# engine/resume.py), and a recipe's digest leaves them out.
RUN_KEYS = (
    "METHOD", "OUTPUT_DIR", "MODEL.WEIGHTS", "MODEL.BACKBONE.PRETRAIN", "MODEL.BACKBONE.PRETRAIN_PATH",
    "MODEL.REFERENCE.CONFIG_FILE", "MODEL.REFERENCE.WEIGHTS", "DATASETS.MANIFEST", "DATASETS.TESTS",
    "SOLVER.CHECKPOINT_PERIOD", "TEST.EVAL_PERIOD",
    "MODEL.DEVICE", "DATALOADER.NUM_WORKERS", "DATALOADER.KEEP_IMAGES", "CUDNN_BENCHMARK",
    "MODEL.SWITCHABLE.CHANNELS_LAST", "MODEL.SWITCHABLE.COMPILE",
    "SOLVER.AMP.ENABLED", "SOLVER.AMP.DTYPE", "TEST.IMS_PER_BATCH", "TEST.PRECISION",
    "TEST.ROC.ENABLED", "TEST.FLIP.ENABLED", "TEST.GALLERY_DRAWS", "TEST.AQE.ENABLED", "TEST.AQE.ALPHA",
    "TEST.AQE.QE_TIME", "TEST.AQE.QE_K", "TEST.RERANK.ENABLED", "TEST.RERANK.K1", "TEST.RERANK.K2",
    "TEST.RERANK.LAMBDA",
)  # fmt: skip


METRIC = "cosine: inner product of L2-normalised features"
SPACE = ("family", "dimension", "metric", "preprocessing")  # must all agree for features to compare


class Difference(NamedTuple):
    """A setting with two values."""

    key: str
    there: Any
    here: Any

    def __str__(self) -> str:
        return f"{self.key} {self.there!r} there and {self.here!r} here"


def flat_settings(node: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten a config, or a part of one, to ``KEY.KEY: value``. Sequences become lists."""
    found: dict[str, Any] = {}
    for key, value in node.items():
        if isinstance(value, Mapping):
            found.update(flat_settings(value, f"{prefix}{key}."))
        else:
            found[f"{prefix}{key}"] = list(value) if isinstance(value, tuple) else value
    return found


def feature_settings(cfg: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that features depend on, by full name, from a config of this plug-in or of FastReID.

    A config without the plug-in's keys has no value for them. The crop size counts only if the config crops.
    """
    flat = flat_settings(cfg)
    cropped = flat["INPUT.CROP.ENABLED"]
    return {key: flat[key] for key in FEATURE_KEYS if key in flat and (cropped or key != "INPUT.CROP.SIZE")}


def differences(there: Mapping[str, Any], here: Mapping[str, Any]) -> list[Difference]:
    """The settings that both have with different values, sorted by name."""
    return [Difference(key, there[key], here[key]) for key in sorted({*there} & {*here}) if there[key] != here[key]]


def refuse_differences(found: list[Difference], rule: str, where: str = "") -> None:
    """Reject differences, if there are any: one line explains the first and names the others.

    Args:
        found: The differences.
        rule: Why the first value must stay. The message puts ``must be VALUE`` before it.
        where: Where the second value is. The message puts ``found VALUE`` before it.
    """
    if found:
        first, *others = found
        also = f"; also {', '.join(map(str, others))}" if others else ""
        raise InputError(first.key, f"must be {first.there!r}{rule}", f"{first.here!r}{where}{also}")


def preprocessing_of(cfg: Any) -> dict[str, Any]:
    """How a config's test pipeline and model process an image, as a model card's ``preprocessing``."""
    crop = {"center_crop": [int(side) for side in cfg.INPUT.CROP.SIZE]} if cfg.INPUT.CROP.ENABLED else {}
    return {
        "size": [int(side) for side in cfg.INPUT.SIZE_TEST],
        **crop,
        "channels": "RGB, 0-255",
        "pixel_mean": [float(value) for value in cfg.MODEL.PIXEL_MEAN],
        "pixel_std": [float(value) for value in cfg.MODEL.PIXEL_STD],
        "normalisation": "inside the model",
    }


def check_comparable(*spaces: tuple[object, Mapping[str, Any]], why: str = "to compare features") -> None:
    """Reject models whose features do not lie in the same space, with the first key that differs (InputError).

    Args:
        *spaces: Name and feature space of each model. A space holds values by the names in ``SPACE``, or by some of
            them if the others need not agree: models trained separately to be compatible have different families.
        why: The purpose for which the values must agree.
    """
    (name, space), *others = spaces
    first = flat_settings(space)
    for other_name, other_space in others:
        other = flat_settings(other_space)
        for key in {**first, **other}:
            if first.get(key) != other.get(key):
                found = f"{first.get(key)} in {name} and {other.get(key)} in {other_name}"
                raise InputError(key, f"must be the same {why}", found)
