"""Small images of the data set, embedded in a page."""

from __future__ import annotations

import base64
import io

from fastreid.data import common
from PIL import Image

HEIGHT = 160  # pixels
WIDTH = 240
QUALITY = 85


def data_uri(path: str) -> str:
    """Read an image as FastReID does, shrink it to fit, and return it as a ``data:`` address of a JPEG."""
    image = common.read_image(path).convert("RGB")
    image.thumbnail((WIDTH, HEIGHT), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
