import logging
import resource
import shutil

import pytest
import torch
from fastreid.utils.checkpoint import Checkpointer

from builders import tiny_config, tiny_model
from switchablecompat.config import merge_kept
from switchablecompat.engine.checkpointer import SwitchableCheckpointer
from switchablecompat.errors import InputError
from switchablecompat.modeling.checkpoint import RECORD_KEY, read_checkpoint
from switchablecompat.modeling.trained import run_record
from switchablecompat.provenance import family_digest
from switchablecompat.settings import feature_settings


def make(folder, **more):
    model = tiny_model()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    plain = Checkpointer(model, str(folder), optimizer=optimizer)
    return model, SwitchableCheckpointer(plain, run_record(tiny_config("SEED", 5)), **more)


def test_a_checkpoint_carries_its_run_and_its_family(tmp_path):
    scaler = torch.amp.GradScaler("cpu")
    model, checkpointer = make(tmp_path, grad_scaler=scaler)
    checkpointer.save("model_0003", epoch=3, metric=12.5)
    content = read_checkpoint(str(tmp_path / "model_0003.pth"))
    record = content[RECORD_KEY]
    settings = {name: record.pop(name) for name in ("settings", "features", "files")}
    assert record == {
        "method": "sfsc",
        "seed": 5,
        "widths": [0.25, 0.5, 0.75, 1.0],
        "config": run_record(tiny_config("SEED", 6, "OUTPUT_DIR", "elsewhere"))["config"],
        "family": family_digest(model.state_dict(), feature_settings(tiny_config())),
    }
    assert merge_kept(settings["settings"], "m.pth") == tiny_config("SEED", 5, "OUTPUT_DIR", "")
    assert settings["features"] == feature_settings(tiny_config())
    assert set(settings["files"].values()) == {""}
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


def test_a_write_that_the_system_refuses_is_one_line_and_the_former_checkpoint_stays(tmp_path):
    """The limit on the size of a file stands for a full disk: both end a write half-way."""
    _, checkpointer = make(tmp_path)
    checkpointer.save("model_0000", epoch=0)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(InputError, match=r"model_0001.pth: must be a file that can be written") as error:
            checkpointer.save("model_0001", epoch=1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "\n" not in str(error.value)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_disk_without_room_is_refused_before_training(tmp_path, monkeypatch, caplog):
    model, checkpointer = make(tmp_path)
    one = 3 * sum(value.numel() * value.element_size() for value in model.state_dict().values())
    usage = shutil.disk_usage(tmp_path)

    def free(count):
        monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=count))

    free(one - 1)
    with pytest.raises(
        InputError, match=r"OUTPUT_DIR: must have room for a checkpoint of up to \d+ MiB, found \d+ MiB"
    ):
        checkpointer.prepare(1)
    checkpointer.logger = logging.getLogger("room")  # FastReID's does not propagate once it is set up
    free(3 * one)
    checkpointer.prepare(3)
    assert not caplog.records
    checkpointer.prepare(4)
    assert "this run writes up to 4 checkpoints" in caplog.text


def test_what_a_killed_training_left_is_removed_and_nothing_else(tmp_path):
    _, checkpointer = make(tmp_path)
    checkpointer.save("model_0000", epoch=0)
    for name in (".model_0001.0123456789ab.tmp.pth", ".hidden", "other.tmp.pth"):
        (tmp_path / name).write_text("x")
    checkpointer.prepare(1)
    assert {path.name for path in tmp_path.iterdir()} == {
        "model_0000.pth",
        "last_checkpoint",
        ".hidden",
        "other.tmp.pth",
    }
