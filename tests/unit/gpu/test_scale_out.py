"""The model of several GPUs, against what can be said by hand."""

import json
from pathlib import Path

import pytest

from gpu.scale_out import (
    ASSUMED,
    LINKS,
    Network,
    estimate,
    measured_network,
    ring_seconds,
    step_seconds,
    table,
)

PAGE = Path(__file__).parents[3] / "docs" / "speed.md"

TWO = Network(compute=(3.0, 1.0), elements=(100e6, 25e6))


def test_a_ring_moves_nearly_twice_the_bytes():
    assert ring_seconds(1e6, 2, 4e6, 0.5) == pytest.approx(1 + 0.5)
    assert ring_seconds(1e6, 8, 4e6, 0.0) == pytest.approx(1.75)


def test_on_a_fast_wire_only_the_smallest_gradient_is_not_hidden():
    found = estimate(TWO, 1.0, 2, (4e9, 0.0), rest=0.0)
    # 0.75 s, its sum of 0.1 s beside the next 0.25 s, then 0.025 s; the private ones and the flag on top
    assert found.exposed == pytest.approx(0.025 + 0.13e6 * 4 / 4e9 + 1e-3)
    assert found.communication == pytest.approx(0.125)


def test_on_a_slow_wire_all_that_exceeds_the_next_sub_models_is_waited_for():
    found = estimate(TWO, 1.0, 2, (0.4e9, 0.0), rest=0.0)
    # 0.75 s, a sum of 1 s, then one of 0.25 s: done at 2 s instead of 1 s
    assert found.exposed == pytest.approx(1.0 + 0.13e6 * 4 / 0.4e9 + 1e-3)
    assert found.efficiency() == pytest.approx(1 / (1 + found.exposed))
    assert found.efficiency(4) == pytest.approx(4 / (4 + found.exposed))


def test_one_gpu_waits_for_nothing():
    assert estimate(TWO, 1.0, 1, (1e9, 0.0)).efficiency() == 1


def test_the_network_is_the_measured_one_and_every_link_has_a_line():
    network = measured_network()
    assert network.elements[0] == pytest.approx(23.5e6 + 512 * (2048 + 751), rel=0.01)
    assert [*network.compute] == sorted(network.compute, reverse=True)
    assert all(name in table(0.05, [8]) for name in LINKS)


def test_the_step_is_the_measured_one_once_there_is_one(tmp_path):
    assert step_seconds(tmp_path / "step.json") == ASSUMED
    (tmp_path / "step.json").write_text(json.dumps({"rows": [{"name": "ResNet-50: SFSC step", "ours": 0.05}]}))
    assert step_seconds(tmp_path / "step.json") == 0.05


def test_the_pages_table_is_current():
    assert table(step_seconds(), [2, 8]) in PAGE.read_text(), "python -m gpu.scale_out prints it"
