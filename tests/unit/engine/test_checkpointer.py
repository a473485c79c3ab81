import pytest
import torch
from fastreid.utils.checkpoint import Checkpointer

from builders import tiny_config, tiny_model
from switchablecompat.config import run_record
from switchablecompat.engine.checkpointer import RECORD_KEY, SwitchableCheckpointer
from switchablecompat.modeling.checkpoint import read_checkpoint
from switchablecompat.provenance import family_digest


def make(folder, **more):
    model = tiny_model()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    plain = Checkpointer(model, str(folder), optimizer=optimizer)
    return model, SwitchableCheckpointer.take_over(plain, run_record(tiny_config("SEED", 5)), **more)


def test_a_checkpoint_carries_its_run_and_its_family(tmp_path):
    scaler = torch.amp.GradScaler("cpu")
    model, checkpointer = make(tmp_path, grad_scaler=scaler)
    checkpointer.save("model_0003", epoch=3, metric=12.5)
    content = read_checkpoint(str(tmp_path / "model_0003.pth"))
    assert content[RECORD_KEY] == {
        "method": "sfsc",
        "seed": 5,
        "widths": [0.25, 0.5, 0.75, 1.0],
        "config": run_record(tiny_config("SEED", 6, "OUTPUT_DIR", "elsewhere"))["config"],
        "family": family_digest(model.state_dict()),
    }
    assert (content["epoch"], content["metric"]) == (3, 12.5)
    assert {"model", "optimizer", "grad_scaler"} <= set(content)
    assert checkpointer.get_checkpoint_file() == str(tmp_path / "model_0003.pth")


def test_an_interrupted_save_leaves_the_former_checkpoint(tmp_path, monkeypatch):
    model, checkpointer = make(tmp_path)
    checkpointer.save("model_final", epoch=1)
    before = (tmp_path / "model_final.pth").read_bytes()

    def interrupted(data, path):
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", interrupted)
    model.heads.weight.data += 1
    with pytest.raises(KeyboardInterrupt):
        checkpointer.save("model_final", epoch=2)
    assert (tmp_path / "model_final.pth").read_bytes() == before
    assert {p.name for p in tmp_path.iterdir()} == {"model_final.pth", "last_checkpoint"}


def test_nothing_is_written_by_other_ranks(tmp_path):
    _, checkpointer = make(tmp_path)
    checkpointer.save_to_disk = False
    checkpointer.save("model_final")
    assert list(tmp_path.iterdir()) == []
