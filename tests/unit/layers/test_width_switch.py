import copy

import pytest

from switchablecompat.errors import InputError
from switchablecompat.layers import WidthSwitch, check_widths


def test_full_model_is_active_by_default_and_after_use():
    switch = WidthSwitch([0.25, 0.5, 1.0])
    assert switch.is_full
    assert switch.name == "w100"
    with switch.use(0):
        assert (switch.index, switch.name, switch.is_full) == (0, "w025", False)
        with switch.use(1):
            assert switch.name == "w050"
        assert switch.name == "w025"
    assert switch.is_full


def test_former_width_returns_after_an_error():
    switch = WidthSwitch([0.5, 1.0])
    with pytest.raises(RuntimeError), switch.use(0):
        raise RuntimeError
    assert switch.is_full


def test_unknown_sub_models_are_refused():
    switch = WidthSwitch([0.5, 1.0])
    with pytest.raises(IndexError, match="found 2"), switch.use(2):
        pass
    with pytest.raises(InputError, match=r"one of \[0.5, 1.0\], found 0.3"):
        switch.index_of(0.3)
    assert switch.index_of(0.5) == 0


def test_copies_of_a_model_have_a_switch_of_their_own():
    layers = [WidthSwitch([0.5, 1.0])] * 2
    copied = copy.deepcopy(layers)
    assert copied[0] is copied[1]
    with copied[0].use(0):
        assert layers[0].is_full


@pytest.mark.parametrize(
    ("widths", "rule"),
    [
        ([], "at least one"),
        ([0.5, 0.25, 1.0], "ascending"),
        ([0.5, 0.5, 1.0], "ascending"),
        ([0.25, 0.5], "end in 1.0"),
        ([0.0, 1.0], r"in \(0, 1\]"),
        ([0.5, 1.5], r"in \(0, 1\]"),
        (["a", 1.0], "numbers"),
        (1.0, "numbers"),
        ([float("nan"), 1.0], r"in \(0, 1\]"),
    ],
)
def test_bad_widths_are_refused_with_key_rule_and_value(widths, rule):
    with pytest.raises(InputError, match=rf"^MODEL.SWITCHABLE.WIDTHS: .*{rule}.*, found "):
        check_widths(widths)
