import ast
import re
import sys
from pathlib import Path

import pytest
import torch
from fastreid.config import get_cfg
from fastreid.layers import any_softmax

from builders import R18, TINY, tiny_config, tiny_model
from switchablecompat.aggregation import build_aggregation
from switchablecompat.config import add_switchablecompat_config, load_config
from switchablecompat.engine.setup import check_components, check_device, warn_of_unread
from switchablecompat.errors import InputError
from switchablecompat.losses.compatible import PRESETS, CompatibleLoss

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "projects" / "SwitchableCompat" / "switchablecompat"
YAMLS = sorted(str(p.relative_to(ROOT)) for p in (ROOT / "configs").rglob("*.yml") if p.parent.name != "suites")


def added_keys():
    def walk(node, prefix=""):
        for key, value in node.items():
            if isinstance(value, dict):
                yield from walk(value, f"{prefix}{key}.")
            else:
                yield f"{prefix}{key}"

    return sorted(set(walk(add_switchablecompat_config(get_cfg()))) - set(walk(get_cfg())))


@pytest.mark.parametrize("key", added_keys())
def test_every_key_we_add_is_read_somewhere(key):
    """A key that only config.py knows does nothing, and a user who sets it believes a false experiment."""
    leaf = key.rpartition(".")[2]
    readers = []
    for path in PACKAGE.rglob("*.py"):
        if path.name in ("config.py", "config_check.py", "config_unread.py"):
            continue
        attributes = {n.attr for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Attribute)}
        readers += [path.name] if leaf in attributes else []
    assert readers, f"{key} is never read"


@pytest.mark.parametrize("key", added_keys())
def test_every_key_we_add_has_a_comment(key):
    lines = (PACKAGE / "config.py").read_text().splitlines()
    at = next(i for i, line in enumerate(lines) if line.strip().startswith(f"cfg.{key} = "))
    sibling = re.match(r"\s*cfg\.[A-Z.]+_UNIT = |\s*cfg\.SEED", lines[at])
    assert lines[at - 1].strip().startswith("#") or sibling


@pytest.mark.parametrize("config_file", YAMLS)
def test_every_yml_is_valid_and_names_its_method(config_file):
    name = load_config(config_file).METHOD
    assert name or Path(config_file).name.startswith("Base-")


BAD = [
    ("MODEL.META_ARCHITECTURE", "Baseline", "must be one of"),
    ("MODEL.BACKBONE.NAME", "build_resnet_backbone", "must be one of"),
    ("MODEL.HEADS.NAME", "EmbeddingHead", "must be one of"),
    ("MODEL.SWITCHABLE.WIDTHS", "[0.5, 0.25, 1.0]", "ascending"),
    ("MODEL.SWITCHABLE.WIDTHS", "[0.5]", "end in 1.0"),
    ("MODEL.SWITCHABLE.WIDTHS", "[]", "at least one"),
    ("MODEL.SWITCHABLE.BACKBONE", "build_switchable_backbone", "ordinary builder"),
    ("MODEL.SWITCHABLE.CHANNEL_DIVISOR", 0, "at least 1"),
    ("MODEL.SWITCHABLE.CLASSIFIER_GRAD", "some", "must be one of"),
    ("MODEL.SWITCHABLE.SUBMODEL_START", "random", r"must be one of \['slices', 'fresh', 'calibrated'\]"),
    ("MODEL.BACKBONE.NORM", "GhostBN", "must be one of"),
    ("MODEL.HEADS.NORM", "GN", "must be one of"),
    ("MODEL.HEADS.CLS_LAYER", "Softmax", "must be one of"),
    ("MODEL.HEADS.POOL_LAYER", "Max", "must be one of"),
    ("MODEL.HEADS.NECK_FEAT", "both", "must be one of"),
    ("MODEL.HEADS.EMBEDDING_DIM", 0, "features of one dimension"),
    ("MODEL.LOSSES.NAME", "('TripletLoss',)", "must hold CompatibleLoss"),
    ("MODEL.LOSSES.NAME", "('CompatibleLoss', 'CrossEntropyLoss')", "KIND ce is the cross-entropy"),
    ("MODEL.LOSSES.NAME", "('CompatibleLoss', 'FocalLoss')", "may hold CompatibleLoss, .*, TripletLoss"),
    ("MODEL.LOSSES.COMPAT.KIND", "edl", "must be one of"),
    ("MODEL.LOSSES.COMPAT.PRESET", "best", "must be one of"),
    ("MODEL.LOSSES.COMPAT.EVIDENCE", "relu", "must be one of"),
    ("MODEL.LOSSES.COMPAT.PRIOR", -1.0, "must be positive"),
    ("MODEL.LOSSES.COMPAT.KL_WEIGHT", -0.1, "not be negative"),
    ("MODEL.LOSSES.COMPAT.TEMPERATURE", 0.0, "must be positive"),
    ("MODEL.LOSSES.COMPAT.SCALE", 0.0, "must be positive"),
    ("MODEL.SWITCHABLE.ONLY_WIDTH", 0.3, r"or one of MODEL.SWITCHABLE.WIDTHS \[0.25, 0.5, 0.75, 1.0\]"),
    ("MODEL.LOSSES.COMPAT.SUBMODELS", "small", "must be one of"),
    ("MODEL.LOSSES.COMPAT.SUBMODELS", "full", "neither InfluenceLoss nor AsymmetricLoss"),
    ("MODEL.LOSSES.INFLUENCE.SCALE", 0.0, "must be positive"),
    ("MODEL.LOSSES.ASYMMETRIC.KIND", "rkd", "must be one of"),
    ("MODEL.LOSSES.ASYMMETRIC.TEACHER", "largest", "must be one of"),
    ("MODEL.LOSSES.ASYMMETRIC.SCALE", -1.0, "must be positive"),
    ("MODEL.LOSSES.ASYMMETRIC.MARGIN", 0.0, "must be positive"),
    ("MODEL.LOSSES.DISTILL.KIND", "rkd", "must be one of"),
    ("MODEL.LOSSES.DISTILL.SCALE", 0.0, "must be positive"),
    ("MODEL.LOSSES.DISTILL.TEMPERATURE", -1.0, "must be positive"),
    ("MODEL.SWITCHABLE.CLASSIFIER", "random", "must be one of"),
    ("MODEL.SWITCHABLE.LOSS_WEIGHTS", "[1.0, 2.0]", "one positive factor for each of the 4 widths"),
    ("MODEL.SWITCHABLE.LOSS_WEIGHTS", "[1.0, 1.0, 1.0, -1.0]", "positive"),
    ("MODEL.SWITCHABLE.LOSS_WEIGHTS", "[1, 1, 1, 0]", "positive"),
    ("MODEL.SWITCHABLE.LOSS_WEIGHTS", "['a', 1, 1, True]", "positive"),
    ("MODEL.SWITCHABLE.SLOW_START", -0.1, "must be between 0 and 1"),
    ("MODEL.SWITCHABLE.SANDWICH", 3, "between 0 and 2"),
    ("SOLVER.AGGREGATION.BETA", 1.5, r"in \[0, 1\]"),
    ("SOLVER.AGGREGATION.RADIUS", 1.0, r"in \[0, 1\)"),
    ("MODEL.LOSSES.COMPAT.KL_SUBMODELS", "none", "must be one of"),
    ("MODEL.LOSSES.CE.SCALE", 0.0, "must be positive"),
    ("MODEL.LOSSES.COMPAT.CERTAINTY_POWER", 0.0, "must be positive"),
    ("SOLVER.AGGREGATION.PROTECT", "top", "must be one of"),
    ("SOLVER.AGGREGATION.CLASSIFIER_GRANULARITY", "rows", "must be one of"),
    ("MODEL.LOSSES.CE.EPSILON", -1.0, r"in \[0, 1\)"),
    ("SOLVER.AGGREGATION.NAME", "mean", "must be one of"),
    ("SOLVER.AGGREGATION.SUPPORT", "half", "must be one of"),
    ("SOLVER.AGGREGATION.GRANULARITY", "block", "must be one of"),
    ("SOLVER.MAX_EPOCH", 0, "at least 1"),
    ("SOLVER.OPT", "Adamm", "must be one of"),
    ("SOLVER.OPT", "Lamb", "must be one of"),
    ("SOLVER.SCHED", "Foo", "must be one of"),
    ("SOLVER.WARMUP_METHOD", "cubic", "must be one of"),
    ("DATALOADER.SAMPLER_TRAIN", "Sampler", "must be one of"),
    ("DATALOADER.SAMPLER_TRAIN", "SetReWeightSampler", "must be one of"),
    ("SEED", 5000000000, "below 2"),
    ("SOLVER.CHECKPOINT_PERIOD", 0, "at least 1"),
    ("SOLVER.IMS_PER_BATCH", 18, "multiple of DATALOADER.NUM_INSTANCE"),
    ("TEST.EVAL_PERIOD", -1, "at least 1"),
    ("TEST.METRIC", "euclidean", "must be cosine"),
    ("TEST.GALLERY_DRAWS", 0, "at least 1"),
    ("TEST.AQE.QE_K", 0, "at least 1"),
    ("TEST.AQE.QE_TIME", 0, "at least 1"),
    ("TEST.AQE.ALPHA", -1.0, "at least 0"),
    ("TEST.RERANK.K1", 0, "at least 1"),
    ("TEST.RERANK.K2", 21, "between 1 and 20"),
    ("TEST.RERANK.LAMBDA", 1.5, "between 0 and 1"),
    ("TEST.PRECISE_BN.NUM_ITER", 0, "at least 1"),
    ("SOLVER.NO_SUCH_KEY", 1, "existing key"),
    ("SOLVER.MAX_EPOCH", "many", "value of its type"),
]


@pytest.mark.parametrize(("key", "value", "rule"), BAD, ids=[f"{k}={v}" for k, v, _ in BAD])
def test_contradictions_are_refused_with_key_rule_and_value(key, value, rule):
    with pytest.raises(InputError, match=rf"^{key}: .*{rule}.*, found ") as error:
        check_components(tiny_config(key, value))
    assert "\n" not in str(error.value)


def test_a_manifest_data_set_needs_its_file():
    with pytest.raises(InputError, match=r"^DATASETS.MANIFEST: must name a CSV file"):
        tiny_config("DATASETS.NAMES", "('ManifestReID',)")


def test_bad_files_are_named(tmp_path):
    with pytest.raises(InputError, match=r"^--config-file: must be an existing yaml file, found nowhere.yml"):
        load_config("nowhere.yml")
    cases = [
        ("MODEL: [", "must be a valid config"),
        ("- a\n", "must be a valid config"),
        ("NO_KEY: 1\n", "Non-existent config key: NO_KEY"),
        ("_BASE_: no.yml\n", "_BASE_ must be an existing"),
    ]
    for text, rule in cases:
        path = tmp_path / "bad.yml"
        path.write_text(text)
        with pytest.raises(InputError, match=rule) as error:
            load_config(str(path))
        assert str(path) in str(error.value)
        assert "\n" not in str(error.value)
    with pytest.raises(InputError, match="must come in pairs"):
        load_config(TINY, ["SOLVER.MAX_EPOCH"])


def test_one_width_needs_no_embedding():
    tiny_config("MODEL.SWITCHABLE.WIDTHS", "[1.0]", "MODEL.HEADS.EMBEDDING_DIM", 0)


ASYMMETRIC, INFLUENCE = "('CompatibleLoss', 'AsymmetricLoss')", "('CompatibleLoss', 'InfluenceLoss')"
BOTH = "('CompatibleLoss', 'AsymmetricLoss', 'DistillationLoss')"
AGGREGATOR, PRIORITY = "SOLVER.AGGREGATION.NAME", "MODEL.LOSSES.COMPAT.PRIORITY"
CLASSIFIER = "MODEL.SWITCHABLE.CLASSIFIER_GRAD"
WEIGHTS, SLOW = "MODEL.SWITCHABLE.LOSS_WEIGHTS", "MODEL.SWITCHABLE.SLOW_START"
DISTILLATION = "('CompatibleLoss', 'DistillationLoss')"
NAMES, TEACHER, ONLY = "MODEL.LOSSES.NAME", "MODEL.LOSSES.ASYMMETRIC.TEACHER", "MODEL.SWITCHABLE.ONLY_WIDTH"
CE, SUM = ("MODEL.LOSSES.COMPAT.KIND", "ce"), ("SOLVER.AGGREGATION.NAME", "sum")
REFERENCE = ("MODEL.REFERENCE.CONFIG_FILE", "a.yml", "MODEL.REFERENCE.WEIGHTS", "a.pth")


@pytest.mark.parametrize(
    ("opts", "key", "rule"),
    [
        ((NAMES, INFLUENCE), "MODEL.REFERENCE.WEIGHTS", "must name the checkpoint of a trained model, which Influence"),
        ((NAMES, ASYMMETRIC), "MODEL.REFERENCE.WEIGHTS", r"which AsymmetricLoss \(ASYMMETRIC.TEACHER reference\)"),
        ((NAMES, INFLUENCE, *REFERENCE[:2]), "MODEL.REFERENCE.WEIGHTS", "must name the checkpoint of a trained model"),
        ((NAMES, BOTH, TEACHER, "full"), NAMES, "must not hold DistillationLoss of KIND features beside"),
        ((*CE, CLASSIFIER, "certain"), CLASSIFIER, "must not be certain without an evidential loss"),
        ((*CE, PRIORITY, 1.0), PRIORITY, "must be 0.0 without an evidential loss on all sub-models"),
        ((NAMES, DISTILLATION, ONLY, 0.5), NAMES, "must not hold DistillationLoss for a network of one width"),
        ((NAMES, ASYMMETRIC, TEACHER, "full", ONLY, 0.5), TEACHER, "must be reference for a network of one width"),
        ((NAMES, ASYMMETRIC, TEACHER, "full", "MODEL.SWITCHABLE.WIDTHS", "[1.0]"), TEACHER, "must be reference"),
    ],
)
def test_a_teacher_and_its_loss_come_together(opts, key, rule):
    with pytest.raises(InputError, match=rf"^{key}: .*{rule}.*, found "):
        check_components(tiny_config(*opts))


def test_configs_of_the_tests_differ_in_what_they_cover():
    assert load_config(R18).MODEL.SWITCHABLE.BACKBONE == "build_resnet_backbone"
    assert load_config(TINY).MODEL.SWITCHABLE.BACKBONE == "build_thin_resnet_backbone"


@pytest.mark.parametrize(("layer", "scale", "margin", "logit"), [
    ("CircleSoftmax", 64, 0.35, "-56"), ("CosSoftmax", 64, 0.35, "-22"), ("ArcSoftmax", 30, 0.5, "-14"),
])  # fmt: skip
def test_margins_that_leave_no_evidence_are_refused_with_an_evidential_loss(layer, scale, margin, logit):
    opts = ("MODEL.HEADS.CLS_LAYER", layer, "MODEL.HEADS.SCALE", scale, "MODEL.HEADS.MARGIN", margin)
    with pytest.raises(InputError, match=rf"^MODEL.HEADS.CLS_LAYER: .* logit of {logit} for .*, found {layer}"):
        tiny_config(*opts)
    tiny_config(*opts, "MODEL.LOSSES.COMPAT.KIND", "ce")

    # The rule is right: the right class's own vector is not pulled, and the cross-entropy would pull it.
    pulls = {}
    for kind, loss in (("evidential", CompatibleLoss(PRESETS["stable"])), ("ce", CompatibleLoss(None))):
        cosines = torch.zeros(8, 100, requires_grad=True)
        targets = torch.arange(8)
        loss(getattr(any_softmax, layer)(100, scale, margin)(cosines.clone(), targets), targets)[0].backward()
        pulls[kind] = -cosines.grad[torch.arange(8), targets].max().item()
    assert pulls["evidential"] < 1e-3 * pulls["ce"]


IBN = "MODEL.BACKBONE.WITH_IBN"
UNREAD = [
    (("MODEL.LOSSES.COMPAT.EVIDENCE", "softplus"), "is read with KIND evidential and PRESET custom only"),
    (("MODEL.LOSSES.COMPAT.PRESET", "custom", *CE, "MODEL.LOSSES.COMPAT.PRIOR", 2.0), "not with ce, custom"),
    ((*CE, "MODEL.LOSSES.COMPAT.TEMPERATURE", 2.0), "is read with KIND evidential only"),
    ((ONLY, 0.5, CLASSIFIER, "full"), "is not read for a network of one width, which trains its class vectors alone"),
    (("MODEL.LOSSES.COMPAT.CERTAINTY_POWER", 2.0), "is read with MODEL.SWITCHABLE.CLASSIFIER_GRAD certain only"),
    (("MODEL.LOSSES.DISTILL.SCALE", 3.0), "is read with DistillationLoss only"),
    (
        (NAMES, DISTILLATION, "MODEL.LOSSES.DISTILL.TEMPERATURE", 2.0),
        "is read with DistillationLoss of KIND logits only",
    ),
    (("MODEL.LOSSES.INFLUENCE.SCALE", 2.0), "is read with InfluenceLoss only"),
    (("MODEL.LOSSES.ASYMMETRIC.MARGIN", 0.5), "is read with AsymmetricLoss only"),
    (("SOLVER.AGGREGATION.BETA", 0.5), "is read with NAME gradvac only"),
    (("SOLVER.AGGREGATION.RADIUS", 0.5), "is read with NAME cagrad only"),
    ((*SUM, "SOLVER.AGGREGATION.GRANULARITY", "layer"), "is not read with NAME sum"),
    ((AGGREGATOR, "cagrad", "SOLVER.AGGREGATION.SUPPORT", "full"), "is read with NAME projection only"),
    (("MODEL.REFERENCE.CONFIG_FILE", "a.yml"), "is read by InfluenceLoss"),
    ((NAMES, ASYMMETRIC, TEACHER, "full", *REFERENCE), "is read by InfluenceLoss"),
    ((ONLY, 0.5, SLOW, 0.5), "is not read for a network of one width"),
    ((ONLY, 0.5, PRIORITY, 1.0), "is not read for a network of one width"),
    ((ONLY, 0.5, "MODEL.SWITCHABLE.SANDWICH", 1), "is not read for a network of one width"),
    (("MODEL.SWITCHABLE.WIDTHS", "[1.0]", WEIGHTS, "[2.0]"), "is not read for a network of one width"),
    ((ONLY, 0.5, "SOLVER.AGGREGATION.GRANULARITY", "layer"), "is not read for a network of one width"),
    (("INPUT.AUTOAUG.ENABLED", True), "has no effect with INPUT.AUTOAUG.PROB 0.0"),
    (("INPUT.RPT.PROB", 0.0, "INPUT.RPT.ENABLED", True), "has no effect with INPUT.RPT.PROB 0.0"),
    (("MODEL.SWITCHABLE.BACKBONE", "build_osnet_backbone", "MODEL.BACKBONE.WITH_SE", True), "is read with"),
    (("MODEL.SWITCHABLE.BACKBONE", "build_mobilenetv2_backbone", IBN, True), "build_osnet_backbone only"),
    (
        ("MODEL.SWITCHABLE.BACKBONE", "build_resnet_backbone", "MODEL.BACKBONE.DROP_RATIO", 0.1),
        "build_vit_backbone only",
    ),
    (("SOLVER.OPT", "RMSprop", "SOLVER.MOMENTUM", 0.5), "is read with SOLVER.OPT SGD only"),
    (("KD.EMA.ENABLED", True), "is not part of this plug-in"),
    (("DATALOADER.SET_WEIGHT", [1, 2]), "is not part of this plug-in"),
    (("MODEL.HEADS.CLS_LAYER", "Linear", "MODEL.HEADS.MARGIN", 0.2), "is not read with CLS_LAYER Linear"),
    (("MODEL.LOSSES.CIRCLE.GAMMA", 64), "is read with CircleLoss only"),
    (("MODEL.LOSSES.TRI.MARGIN", 0.1), "is read with TripletLoss only"),
    (("SOLVER.FREEZE_ITERS", 5), "freezes nothing without MODEL.FREEZE_LAYERS"),
    (("MODEL.FREEZE_LAYERS", "['backbone']"), "freezes nothing with SOLVER.FREEZE_ITERS 0"),
    ((CLASSIFIER, "full", "SOLVER.AGGREGATION.MEAN", "classifier"), "divides nothing"),
    (("TEST.ROC.ENABLED", True), "is not part of the grid; tools/report.py has TAR at FAR of every cell"),
]


@pytest.mark.parametrize(("opts", "reason"), UNREAD, ids=[str(opts[-2:]) for opts, _ in UNREAD])
def test_what_is_not_read_is_no_error_but_said_once_by_name(opts, reason, caplog):
    cfg = tiny_config(*opts)
    check_components(cfg)
    warn_of_unread(cfg)
    said = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    of_key = [line for line in said if line.startswith(f"no effect: {opts[-2]} ")]
    assert len(of_key) == 1, said
    assert reason in of_key[0]


@pytest.mark.parametrize(
    "opts",
    [
        (AGGREGATOR, "mgda", WEIGHTS, "[1, 1, 1, 2]"),  # MGDA's weights depend on the gradients' norms
        (AGGREGATOR, "imtl_g", SLOW, 0.5),  # IMTL-G's direction does not, but its norm does
        (*SUM, CLASSIFIER, "certain", "SOLVER.AGGREGATION.CLASSIFIER_GRANULARITY", "layer"),  # shares of a layer
        (*SUM, CLASSIFIER, "certain", "SOLVER.AGGREGATION.GRANULARITY", "layer"),
        ("MODEL.SWITCHABLE.BACKBONE", "build_osnet_backbone", IBN, True),
        ("MODEL.SWITCHABLE.BACKBONE", "build_own_backbone", IBN, True),
        (CLASSIFIER, "full", "SOLVER.AGGREGATION.MEAN", "all"),
    ],
    ids=str,
)
def test_what_is_read_is_not_said_to_be_unread(opts, caplog):
    warn_of_unread(tiny_config(*opts))
    assert not [record.getMessage() for record in caplog.records if opts[-2] in record.getMessage()]


@pytest.mark.parametrize("config_file", YAMLS)
def test_no_config_of_ours_holds_what_is_not_read(config_file, caplog):
    warn_of_unread(load_config(config_file))
    assert not caplog.records


def test_the_scale_of_the_cross_entropy_counts():
    logits, labels = torch.randn(4, 5), torch.arange(4)
    plain, doubled = (CompatibleLoss.from_config(tiny_config(*CE, "MODEL.LOSSES.CE.SCALE", s)) for s in (1.0, 2.0))
    assert doubled(logits, labels).loss.item() == pytest.approx(2 * plain(logits, labels).loss.item())


def test_a_transformers_signed_features_are_not_pooled_by_what_clamps_them():
    vit = ("MODEL.SWITCHABLE.BACKBONE", "build_vit_backbone", "MODEL.HEADS.POOL_LAYER")
    tiny_config(*vit, "Identity")
    for name in ("GeneralizedMeanPoolingP", "ClipGlobalAvgPool"):
        with pytest.raises(InputError, match=rf"^MODEL.HEADS.POOL_LAYER: must be Identity for .*, found {name}$"):
            tiny_config(*vit, name)


def test_a_start_that_is_calibrated_needs_batches():
    with pytest.raises(InputError, match=r"^TEST.PRECISE_BN.NUM_ITER: must be at least 1, found 0$"):
        tiny_config("TEST.PRECISE_BN.NUM_ITER", 0, "MODEL.SWITCHABLE.SUBMODEL_START", "calibrated")


def test_shares_that_are_one_number_for_all_classes_are_said_to_be(caplog):
    certain = ("MODEL.SWITCHABLE.CLASSIFIER_GRAD", "certain", "SOLVER.AGGREGATION.GRANULARITY", "layer")
    for own, said in (((), True), (("SOLVER.AGGREGATION.CLASSIFIER_GRANULARITY", "filter"), False)):
        caplog.clear()
        opts = (*certain, *own)
        build_aggregation(tiny_config(*opts), tiny_model(*opts))
        assert ("the mean of its shares" in caplog.text) == said


@pytest.mark.parametrize(
    ("device", "backend", "rule"),
    [("cuda:0", "nccl", "must be cuda with several processes, each"), ("cpu", "nccl", "where there are CUDA devices")],
)
def test_devices_of_several_processes(device, backend, rule, monkeypatch):
    monkeypatch.setattr("fastreid.utils.comm.get_world_size", lambda: 2)
    monkeypatch.setattr(sys.modules[check_device.__module__], "check_available", lambda name: None)
    monkeypatch.setattr(torch.distributed, "get_backend", lambda: backend)
    with pytest.raises(InputError, match=rf"^MODEL.DEVICE: .*{rule}.*, found {device}$"):
        check_device(tiny_config("MODEL.DEVICE", device))
    monkeypatch.setattr(torch.distributed, "get_backend", lambda: "gloo")
    check_device(tiny_config("MODEL.DEVICE", "cpu"))
