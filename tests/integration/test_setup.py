"""What a run refuses before it starts: one line each, through the command's own entry."""

import sys

import pytest
import torch

from builders import TINY
from switchablecompat import train_net
from switchablecompat.errors import exit_on_input_error
from switchablecompat.fastreid_shims import use_cpu_loader

BAD = [
    (["--config-file", "nowhere.yml"], "--config-file: must be an existing yaml file, found nowhere.yml"),
    (["--config-file", TINY, "NO.KEY", "1"], "NO.KEY: must be an existing key"),
    (["--config-file", TINY, "SEED"], "KEY VALUE overrides: must come in pairs, found SEED"),
    (["--config-file", TINY, "MODEL.SWITCHABLE.WIDTHS", "[0.5]"], "MODEL.SWITCHABLE.WIDTHS: must end in 1.0"),
    (["--config-file", TINY, "DATASETS.NAMES", "('Market1501',)"], "data set Market1501: needs Market-1501-v15.09.15/"),
    (["--config-file", TINY, "DATASETS.TESTS", "('Nothing',)"], "data set: must be one of "),
    (
        ["--config-file", TINY, "--eval-only"],
        "MODEL.WEIGHTS: must be an existing checkpoint with --eval-only, found ''",
    ),
    (["--config-file", TINY, "SOLVER.IMS_PER_BATCH", "128"], "training data: "),
    (["--config-file", TINY, "SOLVER.MAX_EPOCH", "1"], "SOLVER.MAX_EPOCH: must leave epochs for the cosine schedule"),
    (
        ["--config-file", TINY, "MODEL.WEIGHTS", "/nowhere.pth"],
        "MODEL.WEIGHTS: must be an existing checkpoint, or empty",
    ),
    (["--config-file", TINY, "MODEL.HEADS.NUM_CLASSES", "5"], "MODEL.HEADS.NUM_CLASSES: must be 0"),
    (["--config-file", TINY, "TEST.PRECISE_BN.DATASET", "Market1501"], "data set Market1501: needs"),
    (["--config-file", TINY, "--num-gpus", "x"], "argument --num-gpus: invalid int value"),
]
if not torch.cuda.is_available():
    BAD.append((["--config-file", TINY, "MODEL.DEVICE", "cuda"], "MODEL.DEVICE: no CUDA device is usable here"))


@pytest.fixture(autouse=True)
def _loader_choice_of_this_process():
    yield
    use_cpu_loader(None)


@pytest.mark.parametrize(("arguments", "message"), BAD, ids=[" ".join(a[2:] or a) for a, _ in BAD])
def test_bad_input_is_one_line_and_exit_code_2(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["train_net.py", *arguments, "OUTPUT_DIR", str(tmp_path)])
    with pytest.raises(SystemExit) as stop:
        exit_on_input_error(train_net.main)
    assert stop.value.code == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if "error: " in line]
    assert len(errors) == 1
    assert message in errors[0]
    assert not list(tmp_path.glob("*.pth"))
