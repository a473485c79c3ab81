"""Draws one surveillance-like crop of a generated pedestrian: ``(identity, camera, rng) -> image``.

An identity is a combination of details from short lists (colours, patterns, badge, bag, hair, shoes, build), so no
single cue tells people apart. A camera changes colour, contrast and sharpness and prefers a viewing angle. The module
uses only numpy and Pillow and keeps no state, so equal arguments give equal pixels.

Units: body coordinates are pixels of a 64 x 32 crop, x to the right, y downwards; the canvas is ``SCALE`` times finer.
"""

# ruff: noqa: RUF009 (the traits' defaults are calls that return dataclasses.field)
import math
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from numpy.random import Generator
from PIL import Image, ImageDraw, ImageFilter

Colour = tuple[int, int, int]
Point = tuple[float, float]

SCALE = 3  # supersampling: with 3, one-pixel details of the final crop have no aliasing
BODY_HEIGHT, BODY_WIDTH = 64, 32  # size of the frame for the body's layout, whatever the size of the crop

ACCENTS = ((240, 240, 236), (24, 24, 28), (214, 64, 52), (70, 130, 196), (232, 198, 66), (96, 160, 88))
# area of the accent colour, from garment coordinates u (across) and v (down) in px, and w = v / garment length
MOTIFS: dict[str, Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]] = {
    "wide stripes": lambda u, v, w: v % 6 < 3,
    "narrow stripes": lambda u, v, w: v % 3 < 1.3,
    "pinstripes": lambda u, v, w: u % 3.4 < 1.3,
    "checks": lambda u, v, w: (v % 6 < 3) ^ (u % 6 < 3),
    "dots": lambda u, v, w: (u % 4 - 2) ** 2 + (v % 4 - 2) ** 2 < 1.7,
    "yoke": lambda u, v, w: w < 0.3,
    "hem": lambda u, v, w: w > 0.68,
    "band": lambda u, v, w: np.abs(w - 0.5) < 0.12,
}
BADGES: dict[str, tuple[Point, ...]] = {  # outlines, in units of a badge's half size
    "diamond": ((0, -1.2), (1.2, 0), (0, 1.2), (-1.2, 0)),
    "square": ((-1, -1), (1, -1), (1, 1), (-1, 1)),
    "triangle": ((0, -1.1), (1.2, 1), (-1.2, 1)),
    "bar": ((-1.5, -0.4), (1.5, -0.4), (1.5, 0.4), (-1.5, 0.4)),
}
BACKGROUNDS = ("wall", "tiles", "grass", "fence")


def _drawn(draw: Callable[[Generator], Any]) -> Any:
    """A trait and its distribution."""
    return field(metadata={"draw": draw})


def _among(*options: Any) -> Any:
    """A trait drawn from ``options``. An option that is listed twice is twice as frequent."""
    return _drawn(lambda rng: options[rng.integers(len(options))])


def _between(low: float, high: float) -> Any:
    """A trait drawn uniformly from [low, high)."""
    return _drawn(lambda rng: rng.uniform(low, high))


@dataclass(frozen=True)
class Identity:
    """Traits of a person that are the same in every picture. Colours are RGB, 0 to 255."""

    build: float = _between(0.85, 1.2)
    stature: float = _between(0.92, 1.06)
    upper: Colour = _among((28, 30, 36), (236, 234, 228), (128, 130, 134), (150, 32, 40), (36, 58, 120), (52, 104, 68),
                           (206, 176, 92), (120, 80, 58))  # fmt: skip
    accent: Colour = _among(*ACCENTS)
    pattern: str = _among("plain", "plain", *MOTIFS)
    sleeves: str = _among("long", "long", "short", "accent")
    badge: str = _among("none", *BADGES)
    badge_side: int = _among(-1, 0, 1)
    badge_colour: Colour = _among(*ACCENTS)
    lower: Colour = _among((30, 32, 40), (58, 74, 112), (110, 110, 116), (176, 158, 126), (86, 66, 54), (214, 210, 204))
    lower_kind: str = _among("trousers", "trousers", "trousers", "shorts", "skirt", "long skirt")
    shoes: Colour = _among((26, 26, 28), (232, 232, 230), (112, 74, 50), (176, 44, 48))
    boots: bool = _among(False, False, False, True)
    hair: Colour = _among((24, 20, 20), (78, 50, 32), (168, 128, 72), (142, 142, 144))
    hairstyle: str = _among("short", "long", "bun", "bald", "cap")
    skin: Colour = _among((236, 196, 168), (206, 156, 120), (150, 104, 74), (96, 66, 50))
    bag: str = _among("none", "none", "backpack", "shoulder bag", "handbag")
    bag_side: int = _among(-1, 1)
    bag_colour: Colour = _among(*ACCENTS)


@dataclass(frozen=True)
class Camera:
    """Effect of a camera on every picture: ``angle`` in radians (0 = front), ``gain`` per channel, ``blur`` in px."""

    angle: float
    background: str
    gain: tuple[float, float, float] = _drawn(lambda rng: tuple(np.exp(rng.uniform(-0.17, 0.17, 3))))
    gamma: float = _between(0.65, 1.5)
    saturation: float = _between(0.45, 1.05)
    blur: float = _between(0.2, 0.75)
    noise: float = _between(3.0, 9.0)
    tilt: float = _between(0.0, 0.10)
    zoom: float = _between(0.93, 1.05)
    ground: Colour = _drawn(lambda rng: tuple((rng.integers(60, 190) + rng.integers(-16, 17, 3)).tolist()))
    wall: Colour = _drawn(lambda rng: tuple((rng.integers(60, 190) + rng.integers(-16, 17, 3)).tolist()))


def _draw_traits(kind: type, rng: Generator) -> dict[str, Any]:
    return {trait.name: trait.metadata["draw"](rng) for trait in fields(kind) if trait.metadata}


def sample_identity(rng: Generator) -> Identity:
    """Draw the traits of one person."""
    return Identity(**_draw_traits(Identity, rng))


def sample_camera(rng: Generator, number: int) -> Camera:
    """Draw the traits of camera ``number`` (0, 1, ...). Cameras with adjacent numbers see different sides of people."""
    angle, background = number * 2.4 + rng.uniform(-0.4, 0.4), BACKGROUNDS[number % len(BACKGROUNDS)]
    return Camera(angle, background, **_draw_traits(Camera, rng))


def draw_crop(identity: Identity, camera: Camera, rng: Generator, height: int = 64, width: int = 32) -> np.ndarray:
    """Draw one picture of ``identity`` seen by ``camera``: (height, width, 3) uint8, RGB.

    ``rng`` decides on pose, viewing angle, occlusion, light and noise.
    """
    canvas = _background(camera, rng)
    if rng.random() < 0.15:  # another person passes behind
        _Figure(canvas, sample_identity(rng), camera, rng, x=16 + rng.choice((-1, 1)) * rng.uniform(9, 15)).draw()
    _Figure(canvas, identity, camera, rng, x=16 + rng.normal(0, 1.3)).draw()
    if rng.random() < 0.2:  # an object stands in front: a low box or a post
        low = (rng.uniform(-14, 20), rng.uniform(40, 56), rng.uniform(12, 28))
        x, y, wide = low if rng.random() < 0.6 else (rng.uniform(2, 28), 0.0, rng.uniform(2, 5))
        box = (x * SCALE, y * SCALE, (x + wide) * SCALE, canvas.height)
        ImageDraw.Draw(canvas).rectangle(box, fill=tuple(rng.integers(30, 210, 3).tolist()))
    return _photograph(canvas, camera, rng, height, width)


def _shade(colour: Colour, factor: float) -> Colour:
    red, green, blue = (min(255, int(channel * factor)) for channel in colour)
    return red, green, blue


class _Figure:
    """Paints one person on a canvas: lays out the pose, then paints body parts from the far to the near side."""

    def __init__(self, canvas: Image.Image, who: Identity, camera: Camera, rng: Generator, x: float) -> None:
        self.canvas, self.who, self.pen, self.x = canvas, who, ImageDraw.Draw(canvas), x
        angle = camera.angle + rng.normal(0.0, 0.7)
        self.facing, self.side = math.cos(angle), math.sin(angle)  # 1 front, -1 back; 1 = looks to the right
        self.tall = tall = 56.0 * who.stature * camera.zoom * rng.uniform(0.94, 1.05)
        top = 62.0 - tall + rng.normal(0.0, 1.3)
        self.shoulder_y = top + tall * (0.155 + camera.tilt * 0.1)
        self.hip_y, self.foot_y = top + tall * (0.49 + camera.tilt), top + tall  # a view from above shortens the legs
        self.half = tall * 0.118 * who.build * (0.62 + 0.38 * abs(self.facing))
        self.turn = self.side * self.half * 0.8  # objects on the chest turn with the body
        self.phase, self.stride = rng.uniform(0, 2 * math.pi), rng.uniform(0.3, 1.0) * (0.25 + 0.75 * abs(self.side))

    def draw(self) -> None:
        """Paint the person."""
        near, hidden = (1 if self.side >= 0 else -1), self.who.bag == "backpack" and self.facing > 0
        self._arm(-near)
        for part in (self._bag, self._legs, self._torso) if hidden else (self._legs, self._torso, self._bag):
            part()
        self._head()
        self._arm(near)

    def _polygon(self, points: list[Point], colour: Colour) -> None:
        self.pen.polygon([(x * SCALE, y * SCALE) for x, y in points], fill=colour)

    def _quad(self, x: float, top: float, top_half: float, end: float, end_half: float, colour: Colour) -> None:
        self._polygon([(x - top_half, top), (x + top_half, top), (x + end_half, end), (x - end_half, end)], colour)

    def _disc(self, x: float, y: float, rx: float, ry: float, colour: Colour) -> None:
        self.pen.ellipse(((x - rx) * SCALE, (y - ry) * SCALE, (x + rx) * SCALE, (y + ry) * SCALE), fill=colour)

    def _limb(self, points: list[Point], thick: float, colour: Colour) -> None:
        path = [(x * SCALE, y * SCALE) for x, y in points]
        self.pen.line(path, fill=colour, width=round(thick * SCALE), joint="curve")

    def _legs(self) -> None:
        who, length, thick = self.who, self.foot_y - self.hip_y, self.tall * 0.085 * self.who.build
        for leg in (-1, 1):
            swing = math.sin(self.phase) * leg * self.stride
            hip = (self.x + leg * self.half * 0.42, self.hip_y - 1)
            knee = (hip[0] + swing * self.tall * 0.06 + self.side * 0.8, self.hip_y + length * 0.5)
            foot = (hip[0] + swing * self.tall * 0.13, self.foot_y - 1.5 - max(0.0, -swing) * 2)
            bare, tone = who.lower_kind != "trousers", (0.85 if leg < 0 else 1.0)
            skin_or_cloth = _shade(who.skin if bare else who.lower, tone)
            self._limb([hip, knee, foot], thick * (0.75 if bare else 1.0), skin_or_cloth)
            if who.lower_kind == "shorts":
                self._limb([hip, knee], thick * 1.15, _shade(who.lower, tone))
            if who.boots:
                self._limb([(knee[0] * 0.4 + foot[0] * 0.6, knee[1] * 0.4 + foot[1] * 0.6), foot], thick, who.shoes)
            self._disc(foot[0] + self.side * 1.2, foot[1] + 0.5, 2.1, 1.4, who.shoes)
        if "skirt" in who.lower_kind:
            end = self.hip_y + length * (0.42 if who.lower_kind == "skirt" else 0.78)
            self._quad(self.x, self.hip_y - 2, self.half * 0.8, end, self.half * 1.2, who.lower)

    def _torso(self) -> None:
        who, x, top, end = self.who, self.x, self.shoulder_y, self.hip_y + 1
        corners = [(x - self.half * 0.75, top), (x + self.half * 0.75, top), (x + self.half, top + 2.2),
                   (x + self.half * 0.86, end), (x - self.half * 0.86, end), (x - self.half, top + 2.2)]  # fmt: skip
        mask = Image.new("L", self.canvas.size)
        ImageDraw.Draw(mask).polygon([(px * SCALE, py * SCALE) for px, py in corners], fill=255)
        self.canvas.paste(who.upper, (0, 0), mask)
        if who.pattern != "plain":
            ys, xs = np.mgrid[: self.canvas.height, : self.canvas.width] / SCALE
            motif = MOTIFS[who.pattern](xs - x - self.turn, ys - top, (ys - top) / (end - top))
            self.canvas.paste(who.accent, (0, 0), Image.fromarray(np.where(motif, np.asarray(mask), np.uint8(0))))
        if self.facing > -0.15 and who.badge != "none":
            u, v = x + self.turn + who.badge_side * self.half * 0.4, top + (end - top) * 0.36
            self._polygon([(u + 2.2 * max(0.4, self.facing) * px, v + 2.2 * py) for px, py in BADGES[who.badge]],
                          who.badge_colour)  # fmt: skip

    def _arm(self, which: int) -> None:
        who = self.who
        swing = -math.sin(self.phase) * which * self.stride
        shoulder = (self.x + which * self.half * (0.92 if abs(self.facing) > 0.4 else 0.25), self.shoulder_y + 2)
        elbow = (shoulder[0] + which * 0.8 + swing * 3, self.shoulder_y + self.tall * 0.17)
        hand = (elbow[0] + swing * 3.5 + self.side * 1.0, self.hip_y + 1.5)
        sleeve = who.accent if who.sleeves == "accent" else who.upper
        tone, thick = (0.82 if which < 0 else 0.93), self.tall * 0.062 * who.build
        self._limb([elbow, hand], thick * 0.85, _shade(who.skin if who.sleeves == "short" else sleeve, tone))
        self._limb([shoulder, elbow], thick, _shade(sleeve, tone))
        self._disc(hand[0], hand[1] + 0.6, 1.1, 1.3, _shade(who.skin, tone))
        if who.bag == "handbag" and which == who.bag_side * (1 if self.facing >= 0 else -1):
            self._quad(hand[0], hand[1] + 2, 2.4, hand[1] + 7, 2.8, who.bag_colour)

    def _bag(self) -> None:
        who, x, top = self.who, self.x, self.shoulder_y
        if who.bag == "backpack":
            centre, rx = x - self.side * self.half * 1.05, self.half * (0.3 + 0.4 * abs(self.facing))
            end, flap = top + (self.hip_y - top) * 0.75, top + (self.hip_y - top) * 0.45
            self._quad(centre, top + 1, rx, end, rx, who.bag_colour)
            if self.facing <= 0:
                self._limb([(centre - rx, flap), (centre + rx, flap)], 0.8, _shade(who.bag_colour, 0.6))
        elif who.bag == "shoulder bag":
            hang = who.bag_side * (1 if self.facing >= 0 else -1)
            far, near = x - hang * self.half * 0.6, x + hang * self.half * 0.95
            self._limb([(far, top), (near, self.hip_y - 1)], 1.1, who.bag_colour)
            self._disc(near, self.hip_y, 2.6, 3.2, who.bag_colour)

    def _head(self) -> None:
        who, x = self.who, self.x + self.side * 0.8
        ry = self.tall * 0.068
        y, rx = self.shoulder_y - ry * 0.95, ry * 0.82
        self._limb([(x, y), (x, self.shoulder_y + 0.6)], rx * 0.9, _shade(who.skin, 0.85))
        if who.hairstyle == "long":
            self._disc(x - self.side * 0.8, y + ry * 0.6, rx * 1.25, ry * 1.5, who.hair)
        self._disc(x, y, rx, ry, who.skin)
        if who.hairstyle != "bald":
            cover = who.accent if who.hairstyle == "cap" else who.hair
            if self.facing < -0.2:
                self._disc(x, y - ry * 0.1, rx * 1.05, ry, cover)
            else:
                self._disc(x - self.side * rx * 0.45, y - ry * 0.62, rx * 1.05, ry * 0.55, cover)
            if who.hairstyle == "bun":
                self._disc(x - self.side * rx, y - ry, rx * 0.6, rx * 0.6, who.hair)
            elif who.hairstyle == "cap" and self.facing > -0.2:
                self._limb([(x - rx, y - 1.5), (x + rx * (1 + self.side), y - 1.5)], 0.9, _shade(who.accent, 0.7))


def _background(camera: Camera, rng: Generator) -> Image.Image:
    """Paint a wall above a floor, with the camera's clutter at a random position."""
    canvas = Image.new("RGB", (BODY_WIDTH * SCALE, BODY_HEIGHT * SCALE), camera.wall)
    pen = ImageDraw.Draw(canvas)
    horizon = (34 + rng.normal(0, 5)) * SCALE
    pen.rectangle((0, horizon, BODY_WIDTH * SCALE, BODY_HEIGHT * SCALE), fill=camera.ground)
    step = {"tiles": 11, "fence": 5}.get(camera.background, 50) * SCALE  # a bare wall has at most a pillar
    for x in np.arange(rng.uniform(-step, 0), canvas.width, step):
        pen.line((x, 0, x, horizon), fill=_shade(camera.wall, 0.75), width=SCALE)
    for _ in range(rng.integers(1, 4)):  # cars, doors, posters, bushes
        x, y = rng.uniform(-6, 32) * SCALE, rng.uniform(-4, 40) * SCALE
        box = (x, y, x + rng.uniform(4, 16) * SCALE, y + rng.uniform(4, 22) * SCALE)
        colour = _shade(camera.wall if rng.random() < 0.5 else camera.ground, rng.uniform(0.5, 1.5))
        (pen.ellipse if camera.background == "grass" else pen.rectangle)(box, fill=colour)
    return canvas


def _photograph(canvas: Image.Image, camera: Camera, rng: Generator, height: int, width: int) -> np.ndarray:
    """Reduce the canvas to the crop and apply blur, light, colour and noise: (height, width, 3) uint8."""
    radius = max(0.0, camera.blur + rng.normal(0.0, 0.15)) * SCALE
    small = canvas.filter(ImageFilter.BoxBlur(radius)).resize((width, height), Image.Resampling.BOX)
    pixels = np.asarray(small, dtype=np.float32) / 255
    ramp = np.linspace(-1, 1, width, dtype=np.float32)[None, :, None] * np.float32(rng.normal(0.0, 0.12))
    pixels = pixels * (1 + ramp) * np.exp(rng.normal(0.0, 0.14, 1) + rng.normal(0.0, 0.04, 3)).astype(np.float32)
    grey = pixels.mean(axis=2, keepdims=True)
    pixels = (grey + (pixels - grey) * camera.saturation) * np.asarray(camera.gain, np.float32)
    pixels = np.clip(pixels, 0, None) ** np.float32(camera.gamma)
    pixels += rng.normal(0.0, camera.noise / 255, pixels.shape).astype(np.float32)
    return np.clip(pixels * 255 + 0.5, 0, 255).astype(np.uint8)
