import dataclasses
import json

import pytest

from gallery_builders import PREPROCESSING
from switchablecompat.deploy.card import ModelCard
from switchablecompat.errors import InputError
from switchablecompat.settings import check_comparable

CARD = ModelCard("onnx", "w025.onnx", "sha256:1", 0.25, (0.25, 1.0), 128, True, PREPROCESSING, extra={"seed": 3})


def test_a_card_survives_its_file(tmp_path):
    path = CARD.write(tmp_path / "model.json")
    assert ModelCard.read(path) == CARD
    content = json.loads(path.read_text())
    assert content["format"] == 1
    assert content["seed"] == 3
    assert CARD.name == "w025"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, "card.json: format: must be 1, found 2"),
        ({"family": None}, "card.json: family: must be given"),
        ({"widths": 5}, "card.json: must be a model card, found 'int' object is not iterable"),
        ({"kind": "pickle"}, "model card: kind: must be one of checkpoint, onnx, program, found pickle"),
    ],
)
def test_what_is_no_card_is_refused(change, message):
    content = {key: value for key, value in {**CARD.to_dict(), **change}.items() if value is not None}
    with pytest.raises(InputError) as error:
        ModelCard.from_dict(content, "card.json")
    assert str(error.value) == message


@pytest.mark.parametrize("text", ["", "[]", "{", b"\xff"])
def test_a_broken_file_is_refused_by_name(text, tmp_path):
    path = tmp_path / "model.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError, match="model.json: must be a"):
        ModelCard.read(path)


@pytest.mark.parametrize(
    "change",
    [
        {"family": "sha256:2"},
        {"dimension": 64},
        {"metric": "euclidean"},
        {"preprocessing": {**PREPROCESSING, "size": [32, 64]}},
    ],
)
def test_features_of_two_spaces_are_refused_with_both_values(change):
    (key,) = change
    name, found = (key, change[key]) if key != "preprocessing" else ("preprocessing.size", [32, 64])
    ours = getattr(CARD, key) if key != "preprocessing" else PREPROCESSING["size"]
    with pytest.raises(InputError) as error:
        check_comparable(("camera", CARD.space), ("cloud", dataclasses.replace(CARD, **change).space))
    assert str(error.value).startswith(f"{name}: must be the same to compare features, found ")
    assert f"{ours} in camera" in str(error.value)
    assert f"{found} in cloud" in str(error.value)


def test_another_width_of_the_family_is_comparable():
    other = dataclasses.replace(CARD, width=1.0, kind="program", file="w100.pt2")
    check_comparable(("camera", CARD.space), ("cloud", other.space))
