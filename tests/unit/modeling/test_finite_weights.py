"""Weights that are not finite numbers are refused by name wherever weights are read."""

import numpy as np
import pytest
import torch

from builders import tiny_model
from switchablecompat.deploy.encoder import Encoder
from switchablecompat.engine.checkpointer import RECORD_KEY
from switchablecompat.errors import InputError
from switchablecompat.modeling.checkpoint import check_same, load_as_start, load_for_evaluation, read_weights

from gallery_builders import CARD  # isort: skip


@pytest.mark.parametrize("read", [load_for_evaluation, load_as_start, check_same])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_damaged_tensor_is_named(tmp_path, read, value):
    model = tiny_model()
    state = model.state_dict()
    state["backbone.conv1.weight"] = state["backbone.conv1.weight"].clone()
    state["backbone.conv1.weight"].view(-1)[:3] = value
    path = str(tmp_path / "model.pth")
    torch.save({"model": state, RECORD_KEY: {}}, path)
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    with pytest.raises(
        InputError, match=r"model.pth: must hold finite .*found \S+ in backbone.conv1.weight \(3 of \d+\)"
    ):
        read(model, path)
    assert all(torch.equal(before[key], tensor) for key, tensor in model.state_dict().items())


def test_half_precision_and_arrays_are_looked_at_too(tmp_path):
    path = str(tmp_path / "a.pth")
    for tensor in (torch.tensor([1.0, float("nan")], dtype=torch.float16), np.array([np.inf])):
        torch.save({"model": {"conv.weight": tensor, "count": torch.tensor(3)}}, path)
        with pytest.raises(InputError, match=r"in conv.weight \(1 of \d\)"):
            read_weights(path, torch.load(path, weights_only=False))


def test_features_that_are_not_finite_are_refused():
    """Of whatever holds the sub-model: a file of ONNX or torch.export has no weights that we could look at."""
    encoder = Encoder(CARD, lambda images: images.flatten(1)[:, :24].log())
    with pytest.raises(InputError, match="w100.onnx: must give finite features, found NaN or infinity at w100"):
        encoder(torch.zeros(1, 3, 8, 4))
