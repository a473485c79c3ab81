"""Columns from a CSV: what is a number, what stays text, and which files are refused."""

import pytest

from switchablecompat.deploy.gallery.columns import read_columns
from switchablecompat.deploy.image_list import LabelledImage
from switchablecompat.errors import InputError


def read(folder, text, *paths):
    (folder / "c.csv").write_text(text)
    return read_columns(folder / "c.csv", [LabelledImage(str(folder / path)) for path in paths])


@pytest.mark.parametrize(
    ("texts", "values"),
    [
        (["3", "-7", "0"], [3, -7, 0]),
        (["9223372036854775807", "-9223372036854775808"], [2**63 - 1, -(2**63)]),
        (["9223372036854775808", "1"], ["9223372036854775808", "1"]),
        (["9" * 5000, "1"], ["9" * 5000, "1"]),
        (["3", "0.25", "-12.5"], [3.0, 0.25, -12.5]),
        (["9223372036854775808", "0.5"], ["9223372036854775808", "0.5"]),
        (["9" * 400 + ".5", "1"], ["9" * 400 + ".5", "1"]),
        (["01234", "5"], ["01234", "5"]),
        (["1_000", "5"], ["1_000", "5"]),
        (["nan", "0.5"], ["nan", "0.5"]),
        (["inf", "0.5"], ["inf", "0.5"]),
        (["1e3", "5"], ["1e3", "5"]),
        ([" 5", "6"], [" 5", "6"]),
        (["+5", "6"], ["+5", "6"]),
        ([".5", "6"], [".5", "6"]),
        (["\u0663", "6"], ["\u0663", "6"]),  # an Arabic three
        (["north", "6"], ["north", "6"]),
    ],
    ids=lambda values: str(values)[:30],
)
def test_numbers_are_plain_decimals_that_fit_64_bits(tmp_path, texts, values):
    lines = "".join(f"{i}.png,{text}\n" for i, text in enumerate(texts))
    found, names = read(tmp_path, f"path,x\n{lines}", *(f"{i}.png" for i in range(len(texts))))
    assert names == ["x"]
    ours = [found[str(tmp_path / f"{i}.png")]["x"] for i in range(len(texts))]
    assert ours == values
    assert [type(value) for value in ours] == [type(value) for value in values]


def test_empty_values_and_lines_are_left_out(tmp_path):
    found, names = read(tmp_path, "path,time,site\n\na.png,,north\n\nb.png,3,\n", "a.png", "b.png")
    assert names == ["time", "site"]
    assert found == {str(tmp_path / "a.png"): {"site": "north"}, str(tmp_path / "b.png"): {"time": 3}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,time,site\na.png,3\n", "line 2: must have 3 fields, found 2"),
        ("path,time\na.png,3\nb.png,3,north\n", "line 3: must have 2 fields, found 3"),
        ("path,time\na.png,3\n./a.png,4\n", "must have each path once, found {folder}/a.png 2 times"),
        ("path,time,time\na.png,3,4\n", "must have each column once, found time 2 times"),
        ("path,pid\na.png,3\n", "must have no columns pid and camid: labels come from the data set (--dataset) or "
         "from the shards, found pid"),
        ("path,time,camid\na.png,3,c1\n", "found camid"),
        ("time\n3\n", "must have a column path and a line for each item, found time"),
        ("", "must have a column path and a line for each item, found none"),
        ("path,time\nb.png,3\n", "must have a line for each of the 1 items, found none for {folder}/a.png"),
    ],
)  # fmt: skip
def test_bad_files_are_one_line(tmp_path, text, message):
    with pytest.raises(InputError) as error:
        read(tmp_path, text, "a.png")
    assert str(error.value).startswith(f"{tmp_path / 'c.csv'}: ")
    assert message.format(folder=tmp_path) in str(error.value)
