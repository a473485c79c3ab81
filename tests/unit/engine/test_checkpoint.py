from pathlib import Path

import pytest
import torch

from builders import R18, images, tiny_model
from switchablecompat.engine import load_for_evaluation, read_checkpoint
from switchablecompat.errors import InputError


def saved(model, path, **extra):
    torch.save({"model": model.state_dict(), **extra}, path)
    return str(path)


def test_loading_restores_the_features(tmp_path):
    model = tiny_model().eval()
    other = tiny_model("MODEL.HEADS.NUM_CLASSES", 3).eval()
    load_for_evaluation(other, saved(model, tmp_path / "m.pth", epoch=3))
    x = images()
    for index in range(4):
        with model.switch.use(index), other.switch.use(index):
            assert torch.equal(model({"images": x}), other({"images": x}))


def test_other_widths_depths_and_layers_are_refused_by_name(tmp_path):
    path = saved(tiny_model(), tmp_path / "m.pth")
    for other in (
        tiny_model("MODEL.SWITCHABLE.WIDTHS", "[0.5, 1.0]"),
        tiny_model("MODEL.HEADS.EMBEDDING_DIM", 64),
        tiny_model(config_file=R18),
    ):
        with pytest.raises(InputError, match=r"m.pth: must be a checkpoint of this config .* found .*(\.|weight)"):
            load_for_evaluation(other, path)


def test_bad_files_are_refused_in_one_line(tmp_path):
    whole = saved(tiny_model(), tmp_path / "m.pth")
    cut, text, other = tmp_path / "cut.pth", tmp_path / "text.pth", tmp_path / "other.pth"
    cut.write_bytes(Path(whole).read_bytes()[:2000])
    text.write_text("not a checkpoint")
    torch.save({"weights": 1}, other)
    for path in (cut, text, other, tmp_path / "none.pth"):
        with pytest.raises(InputError, match=path.name) as error:
            read_checkpoint(str(path))
        assert "\n" not in str(error.value)


def test_a_hostile_pickle_runs_nothing(tmp_path):
    marker = tmp_path / "ran"

    class Hostile:
        def __reduce__(self):
            return open, (str(marker), "w")

    torch.save({"model": {}, "extra": Hostile()}, tmp_path / "hostile.pth")
    with pytest.raises(InputError, match="hostile.pth"):
        read_checkpoint(str(tmp_path / "hostile.pth"))
    assert not marker.exists()
