"""The rows of the comparison: one recipe per data set, and configs that differ in the terms of compatibility only."""

from pathlib import Path

import pytest

from switchablecompat.config import load_config

ROOT = Path(__file__).parents[2]
METHODS = (
    "sfsc", "sfsc_paper", "sfsc_no_uncertainty", "sfsc_no_projection", "bct_s", "bct_s_full_classifier",
    "bct_s_slow_start", "asymmetric_s", "unified", "bct", "asymmetric",
)  # fmt: skip
DATASETS = {"Synthetic": "", "Market1501": "_R50", "MSMT17": "_R50", "VeRi": "_R50"}

# All that a row may set. MODEL.LOSSES.NAME may differ in losses that are terms of compatibility, and in nothing else.
COMPATIBILITY_KEYS = {
    "METHOD",
    "MODEL.SWITCHABLE.ONLY_WIDTH",
    "MODEL.SWITCHABLE.CLASSIFIER_GRAD",
    "MODEL.SWITCHABLE.SLOW_START",
    "MODEL.REFERENCE.CONFIG_FILE",
    "MODEL.REFERENCE.WEIGHTS",
    "MODEL.LOSSES.NAME",
    "MODEL.LOSSES.COMPAT.KIND",
    "MODEL.LOSSES.COMPAT.PRESET",
    "MODEL.LOSSES.COMPAT.SUBMODELS",
    "MODEL.LOSSES.ASYMMETRIC.TEACHER",
    "SOLVER.AGGREGATION.NAME",
    "SOLVER.AGGREGATION.SUPPORT",
    "SOLVER.AGGREGATION.GRANULARITY",
    "SOLVER.AGGREGATION.MEMORY",
    "OUTPUT_DIR",
}
OF_COMPATIBILITY = {"InfluenceLoss", "AsymmetricLoss", "DistillationLoss"}


def flat(node, prefix=""):
    for key, value in node.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def row(dataset, method):
    path = f"configs/{dataset}/{method}{DATASETS[dataset]}.yml"
    assert (ROOT / path).is_file()
    return load_config(path)


@pytest.mark.parametrize("dataset", DATASETS)
@pytest.mark.parametrize("method", METHODS)
def test_all_rows_of_a_data_set_are_equal_outside_the_compatibility_keys(dataset, method):
    cfg, sfsc = row(dataset, method), dict(flat(row(dataset, "sfsc")))
    own = dict(flat(cfg))
    assert own.keys() == sfsc.keys()
    assert {key for key, value in own.items() if value != sfsc[key]} <= COMPATIBILITY_KEYS
    losses = [
        [n for n in names if n not in OF_COMPATIBILITY] for names in (cfg.MODEL.LOSSES.NAME, sfsc["MODEL.LOSSES.NAME"])
    ]
    assert losses[0] == losses[1]
    assert method == cfg.METHOD


@pytest.mark.parametrize("dataset", list(DATASETS)[1:])
@pytest.mark.parametrize("method", METHODS)
def test_a_method_is_the_same_on_every_data_set(dataset, method):
    # the slow start and agreement are checked below
    places = {
        "OUTPUT_DIR", "MODEL.REFERENCE.CONFIG_FILE", "MODEL.REFERENCE.WEIGHTS", "MODEL.SWITCHABLE.SLOW_START",
    }  # fmt: skip
    recipe_losses = {"TripletLoss", "DistillationLoss"}

    def settings(name):
        found = {k: v for k, v in flat(row(name, method)) if k in COMPATIBILITY_KEYS - places}
        return {**found, "MODEL.LOSSES.NAME": [n for n in found["MODEL.LOSSES.NAME"] if n not in recipe_losses]}

    assert settings(dataset) == settings("Synthetic")


@pytest.mark.parametrize("dataset", DATASETS)
def test_runs_do_not_overwrite_each_other_and_references_are_the_unified_run(dataset):
    folders = [row(dataset, method).OUTPUT_DIR for method in METHODS]
    assert len(set(folders)) == len(folders)
    unified = row(dataset, "unified")
    assert unified.MODEL.SWITCHABLE.ONLY_WIDTH == 1.0
    for method in ("bct", "asymmetric"):
        reference = row(dataset, method).MODEL.REFERENCE
        files = (reference.CONFIG_FILE, reference.WEIGHTS)
        assert files == (f"{unified.OUTPUT_DIR}/config.yaml", f"{unified.OUTPUT_DIR}/model_final.pth")


@pytest.mark.parametrize("dataset", DATASETS)
@pytest.mark.parametrize("method", METHODS)
def test_the_rows_of_sfsc_have_agreement_or_from_random_weights_a_slow_start(dataset, method):
    cfg = row(dataset, method)
    ours = method in ("sfsc", "sfsc_no_uncertainty", "sfsc_no_projection")
    pretrained = cfg.MODEL.BACKBONE.PRETRAIN
    assert ("DistillationLoss" in cfg.MODEL.LOSSES.NAME) == (ours and pretrained)
    slow = method == "bct_s_slow_start" or (ours and not pretrained)
    assert (0.5 if slow else 0) == cfg.MODEL.SWITCHABLE.SLOW_START


@pytest.mark.parametrize("dataset", DATASETS)
def test_certainty_decides_where_there_is_uncertainty_estimation(dataset):
    whose = {method: row(dataset, method).MODEL.SWITCHABLE.CLASSIFIER_GRAD for method in METHODS}
    assert [method for method in METHODS if whose[method] == "certain"] == ["sfsc", "sfsc_no_projection"]
    assert whose["sfsc_no_uncertainty"] == "all"  # nothing says who is certain


@pytest.mark.parametrize("dataset", DATASETS)
def test_plain_summation_is_what_its_name_says(dataset):
    """BCT-S is SFSC without both its contributions; its classifier is trained by all, as in joint training."""
    cfg = row(dataset, "bct_s")
    assert (cfg.MODEL.LOSSES.COMPAT.KIND, cfg.SOLVER.AGGREGATION.NAME) == ("ce", "sum")
    assert cfg.MODEL.SWITCHABLE.CLASSIFIER_GRAD == "all"
    assert row(dataset, "bct_s_full_classifier").MODEL.SWITCHABLE.CLASSIFIER_GRAD == "full"
