"""Diagnostics of runs, read from their logs and drawn side by side."""

import json

import pytest
from PIL import Image

from switchablecompat.comparison.mechanism import draw_mechanism, read_history
from switchablecompat.errors import InputError

LINES = (
    {"iteration": 9, "total_loss": 3.0, "conflict_rate_heads.weight": 0.25, "grad_norm_w050": 2.0, "lr": 0.1},
    {"iteration": 19, "total_loss": 2.0, "conflict_rate_heads.weight": 0.125, "loss_compat_w050": 1.5},
    {"iteration": 19, "mAP": 40.0},
)


def write_log(folder, lines):
    folder.mkdir()
    (folder / "metrics.json").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def test_a_history_has_the_diagnostics_of_the_training(tmp_path):
    assert read_history(write_log(tmp_path / "run", LINES)) == {
        "iteration": [9, 19],
        "conflict_rate_heads.weight": [0.25, 0.125],
        "grad_norm_w050": [2.0, None],
        "loss_compat_w050": [None, 1.5],
    }


def test_iterations_that_a_killed_run_repeats_count_once(tmp_path):
    """Killed after iteration 29, resumed from the checkpoint of iteration 9."""
    losses = [(9, 3.0), (19, 2.0), (29, 1.5), (19, 2.25), (29, 1.75), (39, 1.25)]
    lines = [{"iteration": iteration, "total_loss": loss, "loss_compat_w050": loss} for iteration, loss in losses]
    history = read_history(write_log(tmp_path / "run", lines))
    assert history == {"iteration": [9, 19, 29, 39], "loss_compat_w050": [3.0, 2.25, 1.75, 1.25]}


def test_a_run_killed_again_before_its_last_iteration_is_in_order(tmp_path):
    lines = [{"iteration": iteration, "total_loss": 1.0} for iteration in (9, 19, 29, 9, 19)]
    assert read_history(write_log(tmp_path / "run", lines)) == {"iteration": [9, 19, 29]}


@pytest.mark.parametrize("lines", [None, [], [{"iteration": 3, "mAP": 1.0}]])
def test_what_is_no_log_of_a_training_is_refused(tmp_path, lines):
    folder = tmp_path / "run" if lines is None else write_log(tmp_path / "run", lines)
    with pytest.raises(InputError, match=r"metrics\.json: must "):
        read_history(folder)


def test_each_run_has_a_column_with_all_its_series(tmp_path):
    history = read_history(write_log(tmp_path / "run", LINES))
    draw_mechanism({"one": history}, tmp_path / "one.png")
    draw_mechanism({"one": history, "two": history}, tmp_path / "two.png")
    with Image.open(tmp_path / "one.png") as one, Image.open(tmp_path / "two.png") as two:
        assert one.height == two.height
        assert two.width > 1.5 * one.width
        assert len(one.convert("RGB").getcolors(1 << 20)) > 50, "lines, not an empty frame"


def test_a_kind_of_diagnostic_that_no_run_logged_has_no_row(tmp_path):
    run = read_history(write_log(tmp_path / "run", LINES))
    with_shares = run | {"classifier_share_w050": [0.0, 0.5]}
    draw_mechanism({"one": run}, tmp_path / "three_rows.png")
    draw_mechanism({"one": run, "two": with_shares}, tmp_path / "four_rows.png")
    with Image.open(tmp_path / "three_rows.png") as three, Image.open(tmp_path / "four_rows.png") as four:
        assert 3 * four.height == pytest.approx(4 * three.height, abs=4)
