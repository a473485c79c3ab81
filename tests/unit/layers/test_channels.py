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


@given(
    part=st.integers(1, 100), count=st.integers(1, 4), unit=st.integers(1, 24), widths=width_lists,
    divisor=st.integers(1, 16),
)  # fmt: skip
def test_parts_keep_equally_many_of_each_part_in_whole_units(part, count, unit, widths, divisor):
    layout = ChannelRule(widths, divisor).parts(part * count * unit, count, unit)
    assert layout.segments == (part * unit,) * count == layout.kept[-1]
    sizes = [counts[0] for counts in layout.kept]
    assert all(set(counts) == {size} for counts, size in zip(layout.kept, sizes, strict=True))
    assert sizes == sorted(sizes)
    assert all(size >= unit and size % unit == 0 for size in sizes)


@given(channels=st.integers(1, 3000), width=st.integers(1, 99), divisor=st.integers(1, 16))
def test_rounding_is_to_a_multiple_near_by(channels, width, divisor):
    target = channels * width / 100
    kept = scaled_channels(channels, width / 100, divisor)
    assert kept % divisor == 0 or kept == channels
    assert kept >= min(0.9 * target, channels)
    assert abs(kept - target) <= divisor or kept == channels


@given(data=st.data(), widths=width_lists, divisor=st.integers(1, 16), halves=st.booleans())
def test_every_channel_is_taken_by_its_owner_and_all_larger_sub_models(data, widths, divisor, halves):
    rule, channels = ChannelRule(widths, divisor), 2 * data.draw(st.integers(1, 100))
    layout = rule.parts(channels, 2) if halves else rule.slim(channels)
    owners = layout.owner().tolist()
    for index in range(len(widths)):
        taken = set(layout.take(torch.arange(channels), 0, index).tolist())
        assert taken == {channel for channel, owner in enumerate(owners) if owner <= index}
        assert len(taken) == layout.count(index)


@pytest.mark.parametrize(
    ("channels", "unit", "divisor", "kept"),
    [
        (128, 4, 8, [32, 64, 96, 128]),  # ResNeXt's first stage: two groups are a multiple of the divisor
        (64, 16, 8, [16, 32, 48, 64]),  # RegNetX-800MF: one group is
        (72, 24, 8, [24, 48, 72, 72]),  # 18, 36 and 54 in steps of 24; 48 is more than a tenth below 54
        (768, 96, 8, [192, 384, 576, 768]),  # eight heads
    ],
)
def test_units_stay_together(channels, unit, divisor, kept):
    layout = ChannelRule([0.25, 0.5, 0.75, 1.0], divisor).slim(channels, unit)
    assert [layout.count(i) for i in range(4)] == kept


def test_an_axis_that_has_no_such_parts():
    with pytest.raises(ValueError, match="an axis of 2 parts of units of 3 cannot have 8 channels"):
        ChannelRule([0.5, 1.0], 1).parts(8, 2, 3)


def test_concatenated_axes_keep_their_segments():
    a, b = ChannelLayout((4,), ((1,), (4,))), ChannelLayout((2, 3), ((1, 2), (2, 3)))
    both = ChannelLayout.concatenate(a, b)
    assert both == ChannelLayout((4, 2, 3), ((1, 1, 2), (4, 2, 3)))
    assert both.parts[0] == a
    assert both.parts[2] == ChannelLayout((3,), ((2,), (3,)))


@given(data=st.data())
def test_selected_channels_are_owned_as_before(data):
    sizes = data.draw(st.lists(st.integers(1, 6), min_size=1, max_size=4))
    first = [data.draw(st.integers(0, size)) for size in sizes]
    layout = ChannelLayout(tuple(sizes), (tuple(first), tuple(sizes)))
    chosen = sorted(data.draw(st.sets(st.integers(0, sum(sizes) - 1), min_size=1)))
    assert layout.select(chosen).owner().tolist() == layout.owner()[chosen].tolist()
    own = layout.take(torch.arange(sum(sizes)), 0, 0).tolist()
    assert [own[position] for position in layout.positions(chosen, 0)] == [c for c in chosen if c in own]


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
