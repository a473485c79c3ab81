"""FastReID's checkpointer through the shims."""

import io
import pickle

import numpy as np
import pytest
import torch
from fastreid.utils.checkpoint import Checkpointer
from torch import nn


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64"])
def test_numpy_values_load(dtype: str) -> None:
    file = io.BytesIO()
    torch.save({"array": np.ones(2, dtype), "scalar": np.ones((), dtype)[()]}, file)
    file.seek(0)
    loaded = Checkpointer(nn.Linear(1, 1))._load_file(file)
    assert loaded["array"].tolist() == [1, 1]
    assert loaded["scalar"] == 1


def test_numpy_1_names_load() -> None:
    file = io.BytesIO()
    # The plain pickle: no archive whose checksums the replacement below would break.
    torch.save({"scalar": np.float64(0.5)}, file, _use_new_zipfile_serialization=False)
    old = file.getvalue().replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    assert b"numpy.core.multiarray" in old
    assert Checkpointer(nn.Linear(1, 1))._load_file(io.BytesIO(old))["scalar"] == 0.5


class Code:
    """What a hostile checkpoint would carry."""

    def __reduce__(self):
        return print, ("executed",)


def test_code_in_a_checkpoint_is_still_refused(capsys: pytest.CaptureFixture[str]) -> None:
    file = io.BytesIO()
    torch.save({"model": Code()}, file)
    file.seek(0)
    with pytest.raises(pickle.UnpicklingError, match="Unsupported"):
        Checkpointer(nn.Linear(1, 1))._load_file(file)
    assert capsys.readouterr().out == ""
