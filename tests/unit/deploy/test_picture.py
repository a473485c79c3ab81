"""The picture of search results, by its pixels."""

import numpy as np
import pytest
from PIL import Image, ImageColor

from switchablecompat.deploy.gallery.picture import COLOURS, FRAME, HEIGHT, RankListLayout, draw_rank_list
from switchablecompat.deploy.gallery.search import Hit
from switchablecompat.deploy.image_list import LabelledImage
from switchablecompat.errors import InputError

FILLS = {"yellow": (255, 255, 0), "cyan": (0, 255, 255), "magenta": (255, 0, 255), "orange": (255, 165, 0)}


@pytest.fixture
def page(tmp_path):
    """Two queries, three items each; every picture is of one colour; one is wider than high."""
    items = {}
    for name, colour in FILLS.items():
        Image.new("RGB", (40, 20) if name == "cyan" else (20, 40), colour).save(tmp_path / f"{name}.png")
        items[name] = LabelledImage(str(tmp_path / f"{name}.png"))
    found = [
        [
            Hit(1, 7, items["cyan"], 0.9, "junk"),
            Hit(2, 8, items["magenta"], 0.8, "hit"),
            Hit(3, 9, items["orange"], 0.7, "miss"),
        ],
        [
            Hit(1, 9, items["orange"], 0.6, None),
            Hit(2, 7, items["yellow"], 0.5, "miss"),
            Hit(3, 8, items["cyan"], 0.4, "hit"),
        ],
    ]
    kinds = [["query", "junk", "hit", "miss"], ["query", None, "miss", "hit"]]
    names = [["yellow", "cyan", "magenta", "orange"], ["magenta", "orange", "yellow", "cyan"]]
    picture = draw_rank_list([items["yellow"], items["magenta"]], found, "query w025, gallery w100", "", 0.5)
    return np.asarray(picture), kinds, names


def test_frames_tell_hits_from_misses_and_junk(page):
    pixels, kinds, _ = page
    layout = RankListLayout(2, 3, 0.5)
    assert pixels.shape[:2] == layout.size[::-1]
    for row in range(2):
        for column in range(4):
            left, top, right, bottom = layout.box(row, column)
            colour = ImageColor.getrgb(COLOURS[kinds[row][column]])
            for band in (
                pixels[top : top + FRAME, left : right + 1],
                pixels[bottom - FRAME + 1 : bottom + 1, left : right + 1],
                pixels[top : bottom + 1, left : left + FRAME],
                pixels[top : bottom + 1, right - FRAME + 1 : right + 1],
            ):
                assert (band == colour).all()
            assert (pixels[top - 1, left:right] == 255).all()  # and white around it
            assert (pixels[top:bottom, right + 1] == 255).all()


def test_pictures_stand_in_their_frames_with_their_shape(page):
    pixels, _, names = page
    layout = RankListLayout(2, 3, 0.5)
    for row in range(2):
        for column in range(4):
            left, top, right, bottom = layout.box(row, column)
            inner = pixels[top + FRAME : bottom + 1 - FRAME, left + FRAME : right + 1 - FRAME]
            assert inner.shape[:2] == (HEIGHT, HEIGHT // 2)
            name = names[row][column]
            filled = (inner == FILLS[name]).all(axis=2)
            if name != "cyan":
                assert filled.all()
            else:  # twice as wide as high: a band in the middle
                height = HEIGHT // 4
                first = (HEIGHT - height) // 2
                assert filled[first : first + height].all()
                assert not filled[:first].any()
                assert not filled[first + height :].any()


def test_captions_stand_below_the_frames_in_their_colour(page):
    pixels, kinds, _ = page
    layout = RankListLayout(2, 3, 0.5)
    for column, channel in ((2, 1), (3, 0)):  # a hit: green, a miss: red
        left, _, right, bottom = layout.box(0, column)
        caption = pixels[bottom + 2 : bottom + 18, left:right].astype(int)
        others = np.delete(caption, channel, axis=2).max(axis=2)
        assert kinds[0][column] == ("hit" if channel == 1 else "miss")
        assert (caption[..., channel] > others + 40).sum() > 30  # strokes, softened at their edges
        assert (caption.min(axis=2) == 255).mean() > 0.5


def test_an_image_that_is_gone_is_named(tmp_path):
    Image.new("RGB", (4, 8)).save(tmp_path / "q.png")
    hit = Hit(1, 0, LabelledImage(str(tmp_path / "gone.png")), 0.5, None)
    with pytest.raises(InputError, match="gone.png: must be a readable image to be in the picture"):
        draw_rank_list([LabelledImage(str(tmp_path / "q.png"))], [[hit]], "")
