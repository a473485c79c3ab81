"""A picture of search results, one row per query: the query on the left, its results on the right, best first.

Frames: green for a hit, red for a miss, grey for junk (same identity and camera, which does not count), blue if
identities are not known, black for the query. Captions give the same information without colour.
"""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

from matplotlib import get_data_path
from PIL import Image, ImageDraw, ImageFont, ImageOps

from ...errors import InputError
from ..image_list import LabelledImage
from .search import Hit

COLOURS = {"hit": "#1a9641", "miss": "#d7191c", "junk": "#8a8a8a", None: "#3b6fb6", "query": "#000000"}
MARKS = {"hit": "✓ ", "miss": "✗ ", "junk": "= ", None: ""}
LEGEND = {"hit": "✓ same identity", "miss": "✗ another identity", "junk": "= same identity and camera, does not count"}
HEIGHT = 208  # of an image within its frame, in pixels
FRAME, GAP, MARGIN, QUERY_GAP = 6, 12, 20, 36
LINE = 18  # height of a line of text
TITLE_SIZE, CAPTION_SIZE, NAME_SIZE = 18, 14, 11


class RankListLayout:
    """Positions in pixels, for a number of queries and of results per query; ``aspect`` is width by height."""

    def __init__(self, rows: int, columns: int, aspect: float) -> None:
        self.width = round(HEIGHT * min(max(aspect, 0.5), 2))
        self.top = MARGIN + 2 * LINE + 2 * GAP
        self.row_height = HEIGHT + 2 * FRAME + 2 * LINE + GAP
        self.column_width = self.width + 2 * FRAME + GAP
        self.size = (
            2 * MARGIN + (columns + 1) * self.column_width - GAP + QUERY_GAP,
            self.top + rows * self.row_height + GAP + LINE + MARGIN,
        )

    def box(self, row: int, column: int) -> tuple[int, int, int, int]:
        """Left, top, right and bottom pixel of a frame, all within it; column 0 is the query."""
        left = MARGIN + column * self.column_width + (QUERY_GAP if column else 0)
        top = self.top + row * self.row_height
        return left, top, left + self.width + 2 * FRAME - 1, top + HEIGHT + 2 * FRAME - 1


def draw_rank_list(
    queries: Sequence[LabelledImage], hits: Sequence[Sequence[Hit]], title: str, subtitle: str = "", aspect: float = 0.5
) -> Image.Image:
    """Draw the results of one or more queries, one row each, with at least one item; ``aspect`` is width by height."""
    layout = RankListLayout(len(queries), max(map(len, hits)), aspect)
    page = Image.new("RGB", layout.size, "white")
    draw = ImageDraw.Draw(page)
    draw.text((MARGIN, MARGIN), title, "black", _font(TITLE_SIZE, "DejaVuSans-Bold"))
    draw.text((MARGIN, MARGIN + LINE + GAP // 2), subtitle, "black", _font(CAPTION_SIZE))
    for row, (query, found) in enumerate(zip(queries, hits, strict=True)):
        _draw_cell(page, layout.box(row, 0), query, "query", "query")
        for column, hit in enumerate(found, start=1):
            _draw_cell(page, layout.box(row, column), hit.item, hit.match, f"{MARKS[hit.match]}{hit.score:.3f}")
    left = MARGIN
    for kind in [kind for kind in LEGEND if any(hit.match == kind for found in hits for hit in found)]:
        draw.text((left, layout.size[1] - MARGIN - LINE), LEGEND[kind], COLOURS[kind], _font(CAPTION_SIZE))
        left += round(_font(CAPTION_SIZE).getlength(LEGEND[kind])) + 2 * GAP
    return page


def _draw_cell(
    page: Image.Image, box: tuple[int, int, int, int], item: LabelledImage, kind: str | None, caption: str
) -> None:
    left, top, right, bottom = box
    size = (right - left + 1 - 2 * FRAME, bottom - top + 1 - 2 * FRAME)
    draw = ImageDraw.Draw(page)
    draw.rectangle(box, "#f0f0f0", COLOURS[kind], FRAME)
    picture = ImageOps.contain(_open(item.path), size, Image.Resampling.BICUBIC)
    corner = (left + FRAME + (size[0] - picture.width) // 2, top + FRAME + (size[1] - picture.height) // 2)
    page.paste(picture, corner)
    draw.text((left, bottom + 2), caption, COLOURS[kind], _font(CAPTION_SIZE))
    name = _shortened(Path(item.path).name, right - left, _font(NAME_SIZE))
    draw.text((left, bottom + 3 + LINE), name, "#444444", _font(NAME_SIZE))


@cache
def _font(size: int, name: str = "DejaVuSans") -> ImageFont.FreeTypeFont:
    """A font that has the marks and most alphabets; it comes with matplotlib."""
    return ImageFont.truetype(Path(get_data_path()) / "fonts" / "ttf" / f"{name}.ttf", size)


def _open(path: str) -> Image.Image:
    try:
        with Image.open(path) as image:
            return ImageOps.exif_transpose(image).convert("RGB")
    except OSError as error:
        raise InputError(path, "must be a readable image to be in the picture", error) from None


def _shortened(text: str, width: int, font: ImageFont.FreeTypeFont) -> str:
    """The text, or as much of its beginning as fits."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(f"{text}…") > width:
        text = text[:-1]
    return f"{text}…"
