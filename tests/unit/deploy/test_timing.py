"""Turns, and what is made of their times, on a clock that the test moves."""

import pytest

from switchablecompat.deploy.profiles.timing import latency, take_turns


def test_everyone_gets_a_turn_in_every_repeat_after_one_untimed_call():
    now, order = [0.0], []

    def call(name, cost):
        def run():
            order.append(name)
            now[0] += cost

        return run

    seconds = take_turns({"a": call("a", 1.0), "b": call("b", 3.0)}, 3, clock=lambda: now[0])
    assert seconds == {"a": [1.0] * 3, "b": [3.0] * 3}
    assert order == ["a", "a", "b", "b"] * 3


def test_summary_by_hand():
    # a busy moment in the last round slows both down alike: the ratio does not see it
    timing = latency([0.001, 0.002, 0.003, 0.004, 0.050], [0.002, 0.004, 0.006, 0.008, 0.100])
    assert timing["median"] == pytest.approx(3.0)
    assert timing["low"] == pytest.approx(2.0)
    assert timing["high"] == pytest.approx(4.0)
    assert timing["relative"] == pytest.approx(0.5)


def test_relative_is_the_median_of_the_rounds_ratios():
    assert latency([1.0, 2.0, 9.0], [2.0, 1.0, 3.0])["relative"] == 2.0  # of 0.5, 2 and 3; medians alone give 1
