"""Names of sub-models."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from switchablecompat.errors import InputError
from switchablecompat.widths import width_name


@pytest.mark.parametrize(
    ("width", "name"), [(0.25, "w025"), (0.375, "w0375"), (0.5, "w050"), (1.0, "w100"), (1, "w100"), (0.05, "w005")]
)
def test_names(width, name):
    assert width_name(width) == name


def test_every_width_of_four_decimals_has_its_own_name():
    assert len({width_name(i / 10_000) for i in range(1, 10_001)}) == 10_000


@pytest.mark.parametrize("width", [0.0, -0.5, 1.5, 0.00001, float("nan"), float("inf")])
def test_widths_outside_the_range_are_refused(width):
    with pytest.raises(InputError, match=r"width: must be in \(0, 1\]"):
        width_name(width)


@given(width=st.floats(0.0001, 1.0))
def test_a_name_says_the_width_to_four_decimals(width):
    name = width_name(width)
    assert float(f"{name[1]}.{name[2:]}") == pytest.approx(width, abs=0.5001e-4)
    assert len(name) >= 4
