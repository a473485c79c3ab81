"""Class vectors of a reference belong to identities: another split of the same data set has others."""

import pytest
import torch

from builders import tiny_config
from switchablecompat.engine.training_set import check_reference_identities, training_set_record
from switchablecompat.errors import InputError
from switchablecompat.modeling.checkpoint import RECORD_KEY

SPLIT = [("data/a1.png", "set_a", 0), ("data/a2.png", "set_a", 1), ("data/b.png", "set_b", 0)]
HERE = training_set_record(SPLIT)


def reference(tmp_path, record, losses="('CompatibleLoss', 'InfluenceLoss')"):
    path = tmp_path / "model_final.pth"
    torch.save({"model": {}, RECORD_KEY: record}, path)
    return tiny_config("MODEL.LOSSES.NAME", losses, "MODEL.REFERENCE.WEIGHTS", path)


def test_other_identities_are_refused_where_class_vectors_are_used(tmp_path, caplog):
    other = training_set_record([*SPLIT[:2], ("data/c.png", "set_c", 0)])  # as many identities
    with pytest.raises(InputError, match=r"model_final.pth: must be trained on the training identities of this run"):
        check_reference_identities(reference(tmp_path, other), HERE)
    asymmetric = reference(tmp_path, other, "('CompatibleLoss', 'AsymmetricLoss')")
    check_reference_identities(asymmetric, HERE)  # only its features are used
    (line,) = caplog.messages
    assert "this run's test identities may be among them" in line
    check_reference_identities(tiny_config(), HERE)
    assert len(caplog.records) == 1
    asymmetric.defrost()
    asymmetric.merge_from_list(["MODEL.LOSSES.NAME", "('CompatibleLoss', 'InfluenceLoss')"])
    asymmetric.MODEL.REFERENCE.WEIGHTS = str(tmp_path / "nowhere.pth")
    check_reference_identities(asymmetric, HERE)  # what opens the reference says that there is none


@pytest.mark.parametrize(
    ("items", "warnings"),
    [
        (SPLIT, 0),
        ([*SPLIT[::-1]], 0),  # classes have the order of the sorted identities
        ([(f"elsewhere/{path}", pid, camera) for path, pid, camera in SPLIT], 0),
        ([*SPLIT, ("data/b2.png", "set_b", 1)], 1),
    ],
)
def test_the_same_identities_may_have_other_images(items, warnings, tmp_path, caplog):
    check_reference_identities(reference(tmp_path, HERE), training_set_record(items))
    assert len(caplog.records) == warnings


def test_a_reference_of_an_earlier_version_knows_its_images_only(tmp_path, caplog):
    record = {"training_set": HERE["training_set"]}
    cfg = reference(tmp_path, record)
    check_reference_identities(cfg, HERE)
    assert not caplog.records
    check_reference_identities(cfg, training_set_record(SPLIT[:2]))
    assert "was trained on other images" in caplog.records[0].getMessage()
    check_reference_identities(reference(tmp_path, {}), HERE)
    assert len(caplog.records) == 1, "nothing is known of it"
