"""A run opened for its features."""

import pytest
import torch
from fastreid.utils.checkpoint import Checkpointer

from builders import save_run, tiny_config, tiny_model
from switchablecompat.deploy.files.graph import standalone
from switchablecompat.deploy.files.opening import open_encoder
from switchablecompat.errors import InputError
from switchablecompat.modeling.opened import open_model
from switchablecompat.provenance import family_digest
from switchablecompat.settings import check_comparable, feature_settings


def test_the_family_is_that_of_the_weights_without_their_classifier(tiny):
    assert tiny.model.heads.weight.shape[0] == 7
    assert tiny.run.family == family_digest(tiny.model.state_dict(), feature_settings(tiny.run.cfg))
    with torch.no_grad():
        other = tiny_model("MODEL.SWITCHABLE.WIDTHS", "[0.25, 1.0]")
    assert tiny.run.family != family_digest(other.state_dict(), feature_settings(tiny.run.cfg))
    assert standalone(tiny.run, 0.25).heads.weight.shape == (0, 128)
    assert not standalone(tiny.run, 0.25).training


def test_an_exported_checkpoint_opens_too_and_keeps_the_family_of_its_run(tiny, exported):
    folder, card = exported["tiny", 0.25, "checkpoint"]
    opened = open_model(str(folder / card.file))
    assert opened.family == tiny.run.family
    check_comparable(("file", opened.space), ("run", tiny.run.space), ("card", card.space))
    with pytest.raises(InputError, match="model.pth: must be a switchable model .* found build_submodel"):
        opened.index_of(0.25)
    with pytest.raises(InputError, match="model.pth: must be a switchable model"):  # --weights instead of --model
        open_encoder(folder / card.file, 0.25)


def test_opening_does_not_shift_random_numbers(tmp_path):
    save_run(tmp_path / "run")
    state = torch.get_rng_state()
    open_model(str(tmp_path / "run" / "model_final.pth"))
    assert torch.equal(torch.get_rng_state(), state)


def test_a_checkpoint_without_settings_opens_all_the_same_and_says_what_cannot_be_known(tmp_path, caplog):
    (tmp_path / "config.yaml").write_text(tiny_config("METHOD", "mine").dump())
    torch.save({"model": tiny_model().state_dict()}, tmp_path / "model_final.pth")
    for config_file in ("", str(tmp_path / "config.yaml")):
        caplog.clear()
        run = open_model(str(tmp_path / "model_final.pth"), config_file)
        assert run.record["method"] == "mine"  # the checkpoint says nothing
        (line,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
        assert "model_final.pth stores no settings" in line
        assert f"cannot be checked whether {tmp_path}/config.yaml is the config of its training" in line


def test_what_features_depend_on_is_still_checked(tmp_path):
    cfg = tiny_config().clone()
    cfg.defrost()
    cfg.MODEL.SWITCHABLE.CHANNEL_DIVISOR = 0
    (tmp_path / "config.yaml").write_text(cfg.dump())
    torch.save({"model": {}}, tmp_path / "model_final.pth")
    with pytest.raises(InputError, match="CHANNEL_DIVISOR: must be at least 1"):
        open_model(str(tmp_path / "model_final.pth"), str(tmp_path / "config.yaml"))


def test_a_checkpoint_is_read_once_for_its_record_and_its_weights(tmp_path, monkeypatch):
    save_run(tmp_path / "run")
    files = [str(tmp_path / "run" / name) for name in ("config.yaml", "model_final.pth")]
    read, load = [], Checkpointer._load_file
    monkeypatch.setattr(Checkpointer, "_load_file", lambda self, path: read.append(path) or load(self, path))
    assert open_model(*files[::-1]).widths == (0.25, 0.5, 0.75, 1.0)
    assert read == files[1:]
