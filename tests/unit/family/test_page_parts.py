"""The page's drawings and pictures: points where they belong, images that are small and true."""

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from switchablecompat.family.page.charts import Curve, Rule, line_chart
from switchablecompat.family.page.page import data_uri

SIZE = (138, 128)  # without labels: 100 units wide from 30, 100 units high from 8


def points(chart, name):
    (path,) = re.findall(rf'<path class="{name}[^"]*" d="M([^"]*)"', chart)
    return [tuple(map(float, point.split())) for point in path.split("L")]


def draw(curves, **options):
    return line_chart(curves, **{"alt": "", "x_range": (0, 10), "y_range": (0, 100), "size": SIZE, **options})


def test_points_lie_where_the_axes_say():
    chart = draw([Curve([0, 5, 10], [0, 100, 25], 0)])
    assert points(chart, "line") == [(30, 108), (80, 8), (130, 83)]


def test_a_logarithmic_axis_has_equal_steps_for_equal_factors():
    chart = draw([Curve([1, 10, 100], [0, 0, 0], 0)], x_range=(1, 100), log_x=True)
    assert points(chart, "line") == [(30, 108), (80, 108), (130, 108)]


def test_what_lies_outside_is_clipped():
    assert points(draw([Curve([-5, 20], [200, -3], 0)]), "line") == [(30, 8), (130, 108)]


def test_areas_end_on_the_axis_and_bands_on_their_lower_edge():
    chart = draw([Curve([0, 10], [50, 50], 0, "area"), Curve([0, 10], [40, 40], 1, "band", [20, 20])])
    assert points(chart, "area") == [(30, 108), (30, 58), (130, 58), (130, 108)]
    assert points(chart, "band") == [(30, 68), (130, 68), (130, 88), (30, 88)]


def test_rules_cross_the_whole_chart():
    chart = draw([], rules=[Rule("x", 5, "own"), Rule("y", 25, "start")])
    assert '<path class="rule own" d="M80.0 8V108"/>' in chart
    assert '<path class="rule start" d="M30 83.0H130"/>' in chart


def test_words_are_escaped():
    chart = draw([], alt='"><script>', x_label="<b>", y_label="<i>")
    assert "<script" not in chart
    assert "<b>" not in chart
    assert "<i>" not in chart
    assert 'aria-label="&#34;&gt;&lt;script&gt;"' in chart


@pytest.mark.parametrize(
    ("size", "expected"), [((600, 900), (107, 160)), ((900, 300), (240, 80)), ((32, 64), (32, 64))]
)
def test_pictures_are_shrunk_keep_their_shape_and_never_grow(tmp_path, size, expected):
    Image.new("RGB", size, (200, 40, 90)).save(tmp_path / "image.png")
    kind, content = data_uri(str(tmp_path / "image.png")).split(",")
    assert kind == "data:image/jpeg;base64"
    image = Image.open(io.BytesIO(base64.b64decode(content)))
    assert image.size == expected
    # JPEG's rounding of one colour, over the whole image
    np.testing.assert_allclose(np.asarray(image).reshape(-1, 3).mean(axis=0), (200, 40, 90), atol=3)
