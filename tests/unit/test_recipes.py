"""FastReID's recipes as switchable configs: the settings of its own files, and a real step of each at every width."""

from pathlib import Path

import pytest
import torch
from fastreid.modeling.meta_arch import build_model
from fastreid.utils.events import EventStorage

from builders import CLASSES, images, randomise
from switchablecompat.config import load_config
from switchablecompat.engine import SwitchableTrainer
from switchablecompat.fastreid_shims.loading import use_cpu_loader

ROOT = Path(__file__).parents[2]

# Copied from configs/ of FastReID (commit c9bc3ce), which its package leaves out. Of SBS all but the circle softmax.
BOT = {
    "MODEL.BACKBONE.DEPTH": "50x", "MODEL.BACKBONE.LAST_STRIDE": 1, "MODEL.BACKBONE.WITH_NL": False,
    "MODEL.HEADS.POOL_LAYER": "GlobalAvgPool", "MODEL.HEADS.NECK_FEAT": "before", "MODEL.HEADS.CLS_LAYER": "Linear",
    "MODEL.LOSSES.CE.EPSILON": 0.1, "MODEL.LOSSES.TRI.MARGIN": 0.3, "MODEL.LOSSES.TRI.HARD_MINING": True,
    "MODEL.FREEZE_LAYERS": [], "INPUT.AUTOAUG.ENABLED": False, "INPUT.REA.PROB": 0.5, "INPUT.PADDING.ENABLED": True,
    "DATALOADER.SAMPLER_TRAIN": "NaiveIdentitySampler", "DATALOADER.NUM_INSTANCE": 4,
    "SOLVER.OPT": "Adam", "SOLVER.BASE_LR": 0.00035, "SOLVER.MAX_EPOCH": 120, "SOLVER.SCHED": "MultiStepLR",
    "SOLVER.STEPS": [40, 90], "SOLVER.WARMUP_ITERS": 2000, "SOLVER.IMS_PER_BATCH": 64,
}  # fmt: skip
AGW = BOT | {
    "MODEL.BACKBONE.WITH_NL": True, "MODEL.HEADS.POOL_LAYER": "GeneralizedMeanPooling",
    "MODEL.LOSSES.TRI.MARGIN": 0.0, "MODEL.LOSSES.TRI.HARD_MINING": False,
}  # fmt: skip
SBS = BOT | {
    "MODEL.BACKBONE.WITH_NL": True, "MODEL.HEADS.POOL_LAYER": "GeneralizedMeanPoolingP",
    "MODEL.HEADS.NECK_FEAT": "after", "MODEL.LOSSES.TRI.MARGIN": 0.0, "MODEL.FREEZE_LAYERS": ["backbone"],
    "INPUT.AUTOAUG.ENABLED": True, "INPUT.AUTOAUG.PROB": 0.1, "DATALOADER.NUM_INSTANCE": 16,
    "SOLVER.MAX_EPOCH": 60, "SOLVER.SCHED": "CosineAnnealingLR", "SOLVER.DELAY_EPOCHS": 30,
    "SOLVER.ETA_MIN_LR": 7e-7, "SOLVER.FREEZE_ITERS": 1000,
}  # fmt: skip
SBS.pop("SOLVER.STEPS")
SIZES = [256, 128], [384, 128], [256, 256]
USUAL, TALL, SQUARE = ({"INPUT.SIZE_TRAIN": size, "INPUT.SIZE_TEST": size} for size in SIZES)
IBN = {"MODEL.BACKBONE.WITH_IBN": True}
VEHICLES = {"MODEL.HEADS.POOL_LAYER": "GeneralizedMeanPooling", "MODEL.LOSSES.TRI.MARGIN": 0.0,
            "MODEL.LOSSES.TRI.HARD_MINING": False, "SOLVER.IMS_PER_BATCH": 512, **IBN, **SQUARE}  # fmt: skip
VEHICLE_ID = BOT | VEHICLES | {"SOLVER.MAX_EPOCH": 60, "SOLVER.STEPS": [30, 50]}
VERI_WILD = BOT | VEHICLES | {"SOLVER.STEPS": [30, 70, 90], "SOLVER.WARMUP_ITERS": 5000}
RECIPES = {
    "Market1501/sfsc_R50": BOT | USUAL, "Market1501/sfsc_agw_R50": AGW | USUAL, "Market1501/sfsc_sbs_R50": SBS | TALL,
    "MSMT17/sfsc_R50": BOT | USUAL, "MSMT17/sfsc_agw_R50": AGW | USUAL, "MSMT17/sfsc_sbs_R50": SBS | TALL,
    "VeRi/sfsc_R50": BOT | SQUARE, "VeRi/sfsc_agw_R50": AGW | SQUARE,
    "VeRi/sfsc_sbs_R50-ibn": SBS | SQUARE | IBN | {
        "SOLVER.OPT": "SGD", "SOLVER.BASE_LR": 0.01, "SOLVER.ETA_MIN_LR": 7.7e-5, "SOLVER.WARMUP_ITERS": 3000,
        "SOLVER.FREEZE_ITERS": 3000, "DATALOADER.SAMPLER_TRAIN": "BalancedIdentitySampler"},
    "VehicleID/sfsc_R50-ibn": VEHICLE_ID,
    "VehicleID/sfsc_agw_R50-ibn": VEHICLE_ID | {"MODEL.BACKBONE.WITH_NL": True},
    "VehicleID/sfsc_sbs_R50-ibn": SBS | SQUARE | IBN | {"SOLVER.IMS_PER_BATCH": 512},
    "VERIWild/sfsc_R50-ibn": VERI_WILD,
    "VERIWild/sfsc_agw_R50-ibn": VERI_WILD | {"MODEL.BACKBONE.WITH_NL": True},
    "VERIWild/sfsc_sbs_R50-ibn": SBS | SQUARE | IBN | {"SOLVER.IMS_PER_BATCH": 512},
}  # fmt: skip
# As FastReID's data set classes say.
TRAINING_IMAGES = {"Market1501": 12936, "MSMT17": 30248, "VeRi": 37746, "VehicleID": 113346, "VERIWild": 277797}


def value_of(cfg, key):
    for part in key.split("."):
        cfg = cfg[part]
    return cfg


def test_every_recipe_file_is_listed_here_and_in_the_documentation():
    folders = (ROOT / "configs" / name for name in TRAINING_IMAGES)
    files = {f"{path.parent.name}/{path.stem}" for folder in folders for path in folder.glob("sfsc*.yml")}
    assert {name for name in files if "_no_" not in name and "_paper" not in name} == {*RECIPES}
    page = (ROOT / "docs" / "recipes.md").read_text()
    assert [name for name in RECIPES if f"`{name}.yml`" not in page] == []


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_fastreids_with_the_parts_of_sfsc(name):
    cfg = load_config(f"configs/{name}.yml")
    assert {key: value_of(cfg, key) for key in RECIPES[name]} == RECIPES[name]
    assert tuple(cfg.MODEL.LOSSES.NAME) == ("CompatibleLoss", "TripletLoss", "DistillationLoss")
    assert (cfg.MODEL.SWITCHABLE.CLASSIFIER_GRAD, cfg.MODEL.SWITCHABLE.SLOW_START) == ("certain", 0.0)


@pytest.mark.parametrize("name", ["VeRi/sfsc_agw_R50", "VeRi/sfsc_sbs_R50-ibn", "VehicleID/sfsc_R50-ibn"])
def test_the_losses_of_a_recipe_reach_every_parameter_of_its_network(name):
    """At its real size, on small images; norms start away from zero, which non-local layers do not on their own."""
    cfg = load_config(f"configs/{name}.yml", ["MODEL.DEVICE", "cpu", "MODEL.BACKBONE.PRETRAIN", "False",
                                              "MODEL.HEADS.NUM_CLASSES", str(CLASSES)])  # fmt: skip
    model = build_model(cfg).train()
    randomise(model)
    losses = {}
    x = model.preprocess_image(images(8, 64, 64))
    for index in reversed(range(4)):
        losses |= model.submodel_losses(x, torch.arange(8) // 4, index)[0]
    names = ("025", "050", "075", "100")
    expected = {f"loss_{kind}_w{w}" for kind in ("compat", "triplet", "distill") for w in names} - {"loss_distill_w100"}
    assert {*losses} == expected
    compatible = sum(loss for name, loss in losses.items() if "compat" in name)
    (pull,) = torch.autograd.grad(compatible, model.heads.weight, retain_graph=True)
    assert (pull[:2].norm(dim=1) > 0.01).all()  # of the two identities' class vectors
    sum(losses.values()).backward()
    trained = {name: p.grad for name, p in model.named_parameters() if p.requires_grad}
    assert [name for name, grad in trained.items() if grad is None or not 0 < grad.abs().sum() < float("inf")] == []


@pytest.mark.parametrize("name", ["MSMT17/sfsc_agw_R50", "VeRi/sfsc_sbs_R50-ibn", "VERIWild/sfsc_R50-ibn"])
def test_a_step_of_a_recipe_on_a_smaller_backbone(name, tmp_path_factory, monkeypatch, tmp_path):
    """Loader, sampler, optimiser, schedule and aggregation as the recipe has them."""
    monkeypatch.setattr("fastreid.data.build._root", str(tmp_path_factory.getbasetemp() / "recipe-data"))
    batch = 2 * load_config(f"configs/{name}.yml").DATALOADER.NUM_INSTANCE
    data = "('SyntheticReIDTiny',)"
    opts = {
        "MODEL.DEVICE": "cpu", "MODEL.BACKBONE.PRETRAIN": False, "MODEL.BACKBONE.DEPTH": "18x",
        "MODEL.BACKBONE.FEAT_DIM": 512, "INPUT.SIZE_TRAIN": [64, 32], "INPUT.PADDING.SIZE": 2, "DATASETS.NAMES": data,
        "DATASETS.TESTS": data, "DATALOADER.NUM_WORKERS": 0, "SOLVER.IMS_PER_BATCH": batch, "SOLVER.AMP.ENABLED": False,
        "SOLVER.WARMUP_ITERS": 0, "OUTPUT_DIR": tmp_path, "SEED": 0,
    }  # fmt: skip
    use_cpu_loader(True)
    cfg = load_config(f"configs/{name}.yml", [str(part) for pair in opts.items() for part in pair])
    trainer = SwitchableTrainer(cfg)
    inner, model = trainer._trainer, trainer.model
    before = model.heads.weight.detach().clone()
    with EventStorage(0) as storage:
        inner.iter = 0
        inner.run_step()
    for width in ("w025", "w050", "w075", "w100"):
        for loss in ("loss_compat", "loss_triplet"):
            assert 0 < storage.history(f"{loss}_{width}").latest() < 100
    assert (model.heads.weight != before).float().mean() > 0.9  # by SGD a vanishing gradient moves nothing
    trainer.data_loader.shutdown()
    use_cpu_loader(None)
