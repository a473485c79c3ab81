import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from switchablecompat.layers import ChannelLayout, ChannelRule, scaled_channels

width_lists = st.lists(st.integers(1, 99), min_size=0, max_size=5, unique=True).map(
    lambda hundredths: [h / 100 for h in sorted(hundredths)] + [1.0]
)


@pytest.mark.parametrize(
    ("channels", "width", "divisor", "expected"),
    [
        (64, 0.25, 8, 16),
        (64, 0.75, 8, 48),
        (100, 0.5, 8, 48),  # 50 rounds to 48, which is 4 % below
        (24, 0.45, 8, 16),  # 10.8 rounds to 8, more than 10 % below: one multiple up
        (16, 0.25, 8, 8),  # at least one multiple
        (3, 0.5, 8, 3),  # never more than there are
        (10, 0.25, 1, 3),  # 2.5 rounds up
        (37, 1.0, 8, 37),  # the full model is exact
    ],
)
def test_scaled_channels(channels, width, divisor, expected):
    assert scaled_channels(channels, width, divisor) == expected


@given(channels=st.integers(1, 3000), widths=width_lists, divisor=st.integers(1, 16))
def test_sub_models_are_nested_and_the_full_one_is_whole(channels, widths, divisor):
    layout = ChannelRule(widths, divisor).slim(channels)
    counts = [layout.count(i) for i in range(len(widths))]
    assert counts == sorted(counts)
    assert counts[0] >= 1
    assert counts[-1] == layout.total == channels


@given(half=st.integers(1, 300), widths=width_lists, divisor=st.integers(1, 16))
def test_halves_keep_equally_many_of_each_half(half, widths, divisor):
    layout = ChannelRule(widths, divisor).halves(2 * half)
    for first, second in layout.kept:
        assert 1 <= first == second <= half
    assert layout.kept[-1] == (half, half)


def test_odd_channels_have_no_halves():
    with pytest.raises(ValueError, match="even number of channels, found 7"):
        ChannelRule([0.5, 1.0], 1).halves(7)


def test_take_gives_the_leading_channels_of_each_segment():
    layout = ChannelLayout((4, 4), ((1, 1), (3, 2), (4, 4)))
    tensor = torch.arange(8)
    assert layout.take(tensor, 0, 0).tolist() == [0, 4]
    assert layout.take(tensor, 0, 1).tolist() == [0, 1, 2, 4, 5]
    assert layout.take(tensor, 0, 2) is tensor


def test_owner_is_the_smallest_sub_model_that_takes_a_channel():
    layout = ChannelLayout((4, 4), ((1, 1), (3, 2), (4, 4)))
    owner = layout.owner()
    for index in range(3):
        assert layout.take(torch.arange(8), 0, index).tolist() == torch.nonzero(owner <= index).flatten().tolist()
