"""Settings that nothing reads. They are no error, but a user who sets one expects an effect that it does not have."""

from collections.abc import Callable
from operator import attrgetter
from typing import Any

from fastreid.config import CfgNode as CN  # noqa: N817  (FastReID's own abbreviation)

from .settings import flat_settings

Get = Callable[[str], Any]

COMPAT, AGGREGATION, SWITCHABLE = "MODEL.LOSSES.COMPAT", "SOLVER.AGGREGATION", "MODEL.SWITCHABLE"
CUSTOM_KEYS = ("EVIDENCE", "RISK", "PRIOR", "PRIOR_UNIT", "KL_WEIGHT", "KL_UNIT", "KL_SUBMODELS")
OF_LOSSES = {
    "DISTILL": "DistillationLoss", "INFLUENCE": "InfluenceLoss", "ASYMMETRIC": "AsymmetricLoss",
    "TRI": "TripletLoss", "CIRCLE": "CircleLoss", "COSFACE": "Cosface",
}  # fmt: skip
# FastReID's builders of backbones (build_..._backbone), and those among them that read an option of MODEL.BACKBONE.
BUILDERS = ("resnet", "resnext", "resnest", "osnet", "regnet", "effnet", "shufflenetv2", "mobilenetv2", "mobilenetv3",
            "repvgg", "vit")  # fmt: skip
OF_BACKBONES = {
    "WITH_IBN": ("resnet", "resnext", "osnet"), "WITH_SE": ("resnet",), "WITH_NL": ("resnet", "resnext"),
    **dict.fromkeys(("STRIDE_SIZE", "SIE_COE", "DROP_PATH_RATIO", "DROP_RATIO", "ATT_DROP_RATE"), ("vit",)),
}  # fmt: skip
# Of parts of FastReID that this plug-in replaces or does not offer: focal loss, distillation of networks, MoCo, and the
# sampler of several data sets.
OF_OTHERS = ("KD", "KD.EMA", "MODEL.LOSSES.FL", "MODEL.QUEUE_SIZE", "DATALOADER.SET_WEIGHT")
OF_AGGREGATORS = {
    "SUPPORT": "projection", "PROTECT": "projection", "MEMORY": "projection", "BETA": "gradvac", "RADIUS": "cagrad",
    "POWER": "cgi",  # of records of earlier runs
}  # fmt: skip
MAY_BE_NEVER = ("INPUT.FLIP", "INPUT.CJ", "INPUT.AUTOAUG", "INPUT.AUGMIX", "INPUT.REA", "INPUT.RPT")
FACTORS = (
    f"{SWITCHABLE}.LOSS_WEIGHTS", f"{SWITCHABLE}.SLOW_START", f"{SWITCHABLE}.SANDWICH", f"{COMPAT}.PRIORITY",
)  # fmt: skip


def getter(cfg: CN) -> Get:
    """A function that returns the value of a key by its full name."""
    return lambda key: attrgetter(key)(cfg)


def why_unread(key: str, get: Get) -> str:
    """Why nothing reads the setting ``key``, given the others. Empty if something does, or if that is not known."""
    node, _, option = key.rpartition(".")
    if node == COMPAT:
        return _of_compatible_loss(option, get) or _of_factors(key, get)
    if node == AGGREGATION:
        return _of_aggregation(option, get)
    if node == SWITCHABLE:
        if option == "CLASSIFIER_GRAD" and single(get):
            return "is not read for a network of one width, which trains its class vectors alone"
        return _of_factors(key, get)
    if node == "MODEL.BACKBONE":
        return _of_backbone(option, get)
    if key in OF_OTHERS or node in OF_OTHERS:
        return "is not part of this plug-in"
    if key == "MODEL.HEADS.MARGIN" and get("MODEL.HEADS.CLS_LAYER") == "Linear":
        return "is not read with CLS_LAYER Linear"
    if key == "MODEL.FREEZE_LAYERS" and not get("SOLVER.FREEZE_ITERS"):
        return "freezes nothing with SOLVER.FREEZE_ITERS 0"
    if key == "SOLVER.FREEZE_ITERS" and not get("MODEL.FREEZE_LAYERS"):
        return "freezes nothing without MODEL.FREEZE_LAYERS"
    if key == "SOLVER.MOMENTUM" and get("SOLVER.OPT") != "SGD":
        return "is read with SOLVER.OPT SGD only"
    if node == "MODEL.REFERENCE":
        return (
            "" if reference_readers(get) else "is read by InfluenceLoss, and by AsymmetricLoss with TEACHER reference"
        )
    if option == "ENABLED" and node in MAY_BE_NEVER and not get(f"{node}.PROB"):
        return f"has no effect with {node}.PROB 0.0"
    if key == "TEST.ROC.ENABLED":
        return "is not part of the grid; tools/report.py has TAR at FAR of every cell"
    parent, _, loss = node.rpartition(".")
    if parent == "MODEL.LOSSES" and loss in OF_LOSSES:
        if OF_LOSSES[loss] not in get("MODEL.LOSSES.NAME"):
            return f"is read with {OF_LOSSES[loss]} only"
        if (loss, option) == ("DISTILL", "TEMPERATURE") and get("MODEL.LOSSES.DISTILL.KIND") != "logits":
            return "is read with DistillationLoss of KIND logits only"
    return ""


def unread_settings(cfg: CN, defaults: CN) -> list[str]:
    """One line (key, value, reason) for each setting of ``cfg`` that is not its default and that nothing reads."""
    own, default = flat_settings(cfg), flat_settings(defaults)
    reasons = {key: why_unread(key, getter(cfg)) for key, value in own.items() if value != default[key]}
    return [f"{key} {own[key]!r} {reason}" for key, reason in reasons.items() if reason]


def reference_readers(get: Get) -> list[str]:
    """The losses that use ``MODEL.REFERENCE``."""
    names = get("MODEL.LOSSES.NAME")
    readers = [name for name in names if name == "InfluenceLoss"]
    if "AsymmetricLoss" in names and get("MODEL.LOSSES.ASYMMETRIC.TEACHER") == "reference":
        readers.append("AsymmetricLoss (ASYMMETRIC.TEACHER reference)")
    return readers


def single(get: Get) -> bool:
    """Whether the config trains a network of one width."""
    return bool(get(f"{SWITCHABLE}.ONLY_WIDTH")) or len(get(f"{SWITCHABLE}.WIDTHS")) == 1


def _of_compatible_loss(option: str, get: Get) -> str:
    kind, preset = get(f"{COMPAT}.KIND"), get(f"{COMPAT}.PRESET")
    if option in CUSTOM_KEYS and (kind, preset) != ("evidential", "custom"):
        return f"is read with KIND evidential and PRESET custom only, not with {kind}, {preset}"
    if option == "TEMPERATURE" and kind != "evidential":
        return "is read with KIND evidential only"
    if option == "CERTAINTY_POWER" and get(f"{SWITCHABLE}.CLASSIFIER_GRAD") != "certain":
        return f"is read with {SWITCHABLE}.CLASSIFIER_GRAD certain only"
    return ""


def _of_backbone(option: str, get: Get) -> str:
    """Why FastReID's builder of the backbone does not read an option. Of other builders it is not known."""
    backbone = get(f"{SWITCHABLE}.BACKBONE").removeprefix("build_").removesuffix("_backbone")
    readers = OF_BACKBONES.get(option, BUILDERS)
    if backbone not in BUILDERS or backbone in readers:
        return ""
    return f"is read with {SWITCHABLE}.BACKBONE {' or '.join(f'build_{name}_backbone' for name in readers)} only"


def _of_aggregation(option: str, get: Get) -> str:
    if option == "NAME":
        return ""
    if single(get):
        return "is not read for a network of one width"
    name = get(f"{AGGREGATION}.NAME")
    if option in OF_AGGREGATORS and name != OF_AGGREGATORS[option]:
        return f"is read with NAME {OF_AGGREGATORS[option]} only"
    trained_by = get(f"{SWITCHABLE}.CLASSIFIER_GRAD")
    fixed = get(f"{SWITCHABLE}.CLASSIFIER") == "simplex"
    if (option, get(f"{AGGREGATION}.MEAN")) == ("MEAN", "classifier") and (fixed or trained_by != "all"):
        return "divides nothing where not all sub-models train the class vectors with full weight"
    certain = trained_by == "certain"  # its shares are those of the groups' class vectors
    if option in ("GRANULARITY", "CLASSIFIER_GRANULARITY") and name == "sum" and not certain:
        return "is not read with NAME sum"
    return ""


def _of_factors(key: str, get: Get) -> str:
    """Why a loss factor has no effect: it weighs sub-models against each other."""
    if key in FACTORS and single(get):
        return "is not read for a network of one width, which has no others to set it against"
    return ""
