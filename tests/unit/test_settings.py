"""Which settings features depend on, and what a digest and a comparison make of them."""

import pytest
from fastreid.config import get_cfg

from builders import tiny_config, tiny_model
from switchablecompat.errors import InputError
from switchablecompat.provenance import family_digest
from switchablecompat.settings import (
    FEATURE_KEYS,
    Difference,
    differences,
    feature_settings,
    flat_settings,
    refuse_differences,
)

# Written down by hand: every setting that a feature depends on, with a value that the quick recipe does not have.
FEATURES = {
    "MODEL.META_ARCHITECTURE": "Baseline",
    "MODEL.PIXEL_MEAN": [0.0, 0.0, 0.0],
    "MODEL.PIXEL_STD": [1.0, 1.0, 1.0],
    "MODEL.BACKBONE.NAME": "build_resnet_backbone",
    "MODEL.BACKBONE.DEPTH": "101x",
    "MODEL.BACKBONE.LAST_STRIDE": 2,
    "MODEL.BACKBONE.STRIDE_SIZE": (12, 12),
    "MODEL.BACKBONE.WITH_IBN": True,
    "MODEL.BACKBONE.WITH_SE": True,
    "MODEL.BACKBONE.WITH_NL": True,
    "MODEL.SWITCHABLE.BACKBONE": "build_resnet_backbone",
    "MODEL.SWITCHABLE.WIDTHS": [0.5, 1.0],
    "MODEL.SWITCHABLE.ONLY_WIDTH": 0.5,
    "MODEL.SWITCHABLE.CHANNEL_DIVISOR": 16,
    "MODEL.HEADS.NAME": "EmbeddingHead",
    "MODEL.HEADS.POOL_LAYER": "GlobalMaxPool",
    "MODEL.HEADS.EMBEDDING_DIM": 64,
    "MODEL.HEADS.WITH_BNNECK": False,
    "MODEL.HEADS.NECK_FEAT": "before",
    "INPUT.SIZE_TEST": [32, 64],
    "INPUT.CROP.ENABLED": True,
}
WEIGHTS = tiny_model().state_dict()


def changed(key, value):
    cfg = tiny_config().clone()
    cfg.defrost()
    *nodes, leaf = key.split(".")
    node = cfg
    for name in nodes:
        node = node[name]
    node[leaf] = value
    return cfg


def digest(cfg):
    return family_digest(WEIGHTS, feature_settings(cfg))


def other(value):
    """Another value of the same type."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    return [*value, 1] if isinstance(value, list) else f"{value}x"


def test_the_settings_are_these():
    assert {*FEATURE_KEYS} == {*FEATURES, "INPUT.CROP.SIZE"}


@pytest.mark.parametrize("key", FEATURES)
def test_the_digest_changes_with_every_setting_that_features_depend_on(key):
    assert digest(changed(key, FEATURES[key])) != digest(tiny_config())


@pytest.mark.parametrize("key", sorted({*flat_settings(tiny_config())} - {*FEATURES}))
def test_the_digest_does_not_change_with_any_other(key):
    value = other(flat_settings(tiny_config())[key])
    assert digest(changed(key, value)) == digest(tiny_config())


def test_the_size_of_a_crop_counts_where_there_is_one():
    cropped = [changed("INPUT.CROP.ENABLED", True) for _ in range(2)]
    cropped[1].INPUT.CROP.SIZE = [8, 8]
    assert digest(cropped[0]) != digest(cropped[1])


def test_numbers_are_compared_as_numbers_and_tuples_as_lists():
    """What a yaml file, the command line and torch make of one value."""
    for mean in ((0, 0, 0), [0.0, 0.0, 0.0], [0, 0.0, 0]):
        assert digest(changed("MODEL.PIXEL_MEAN", mean)) == digest(changed("MODEL.PIXEL_MEAN", [0.0, 0.0, 0.0]))
    assert digest(changed("INPUT.SIZE_TEST", (64, 32))) == digest(tiny_config())


def test_a_config_of_fastreid_alone_has_settings_too():
    settings = feature_settings(get_cfg())
    assert settings["MODEL.HEADS.POOL_LAYER"] == "GlobalAvgPool"
    assert not [key for key in settings if "SWITCHABLE" in key]


def test_one_line_names_all_differences_with_both_values():
    found = differences({"A": 1, "B": [1], "C": 2, "GONE": 1}, {"A": 1, "B": [2], "C": 3, "NEW": 1})
    assert found == [Difference("B", [1], [2]), Difference("C", 2, 3)]
    with pytest.raises(InputError) as error:
        refuse_differences(found, ", as it was", " in x.yml")
    assert str(error.value) == "B: must be [1], as it was, found [2] in x.yml; also C 2 there and 3 here"
    refuse_differences([], "")
