"""Pictures of one coloured shape on a plain or slightly noisy background, of any size and aspect ratio."""

from __future__ import annotations

import io
import math
import random

from PIL import Image, ImageDraw, ImageFilter

from demo.words import COLOURS, SHAPES

Point = tuple[float, float]
Rgb = tuple[int, int, int]

#: The plain values that people write (CSS and PIL names), each colour's own spread is drawn around one of them.
ANCHORS: dict[str, tuple[Rgb, ...]] = {
    "red": ((255, 0, 0), (220, 20, 60), (200, 0, 0)),
    "green": ((0, 128, 0), (0, 255, 0), (34, 160, 34), (50, 205, 50)),
    "blue": ((0, 0, 255), (30, 90, 255), (0, 0, 190)),
    "yellow": ((255, 255, 0), (255, 235, 20), (240, 230, 0)),
    "orange": ((255, 165, 0), (255, 140, 0), (255, 128, 0)),
    "purple": ((128, 0, 128), (150, 30, 200), (160, 32, 240)),
    "black": ((0, 0, 0), (15, 15, 15)),
    "white": ((255, 255, 255), (245, 245, 245)),
}
#: Backgrounds beside the palette: greys and pastels, which are never asked for.
BACKGROUNDS: tuple[Rgb, ...] = (
    (128, 128, 128), (200, 200, 200), (90, 90, 90), (255, 192, 203), (173, 216, 230), (245, 245, 220), (200, 230, 200),
    (60, 60, 80), (139, 90, 60),
)  # fmt: skip
JITTER = 8


def jittered(rng: random.Random, colour: Rgb) -> Rgb:
    """`colour` moved a little in each channel."""
    red, green, blue = (min(255, max(0, channel + rng.randint(-JITTER, JITTER))) for channel in colour)
    return red, green, blue


def shade(rng: random.Random, name: str) -> Rgb:
    """Some red, for "red"; half the time exactly one of the values that people write."""
    anchor = rng.choice(ANCHORS[name])
    return anchor if rng.random() < 0.5 else jittered(rng, anchor)


def outline(shape: str, centre: Point, radius: Point, tilt: float) -> list[Point]:
    """The corners of `shape` around `centre`, `radius` wide and high, turned by `tilt` radians."""
    unit: list[Point]
    if shape == "circle":
        unit = [(math.cos(step * math.tau / 72), math.sin(step * math.tau / 72)) for step in range(72)]
    elif shape == "square":
        unit = [(-1, -1), (1, -1), (1, 1), (-1, 1)]
    elif shape == "triangle":
        unit = [(0, -1), (1, 1), (-1, 1)]
    elif shape == "diamond":
        unit = [(0, -1), (1, 0), (0, 1), (-1, 0)]
    elif shape == "star":
        turns = [step * math.tau / 10 - math.tau / 4 for step in range(10)]
        unit = [
            ((1 if step % 2 == 0 else 0.42) * math.cos(turn), (1 if step % 2 == 0 else 0.42) * math.sin(turn))
            for step, turn in enumerate(turns)
        ]
    elif shape == "cross":
        arm = 0.33
        unit = [
            (-arm, -1), (arm, -1), (arm, -arm), (1, -arm), (1, arm), (arm, arm),
            (arm, 1), (-arm, 1), (-arm, arm), (-1, arm), (-1, -arm), (-arm, -arm),
        ]  # fmt: skip
    else:
        raise ValueError(f"no such shape: {shape}")
    cosine, sine = math.cos(tilt), math.sin(tilt)
    return [
        (centre[0] + radius[0] * (x * cosine - y * sine), centre[1] + radius[1] * (x * sine + y * cosine))
        for x, y in unit
    ]


def background(rng: random.Random, taken: str) -> Rgb:
    """A background on which a shape of colour `taken` can be seen; white as often as all the others in its class."""
    kind = rng.random()
    if kind < 0.4 and taken != "white":
        return (255, 255, 255)
    if kind < 0.5 and taken != "black":
        return (0, 0, 0)
    if kind < 0.75:
        return shade(rng, rng.choice([name for name in COLOURS if name != taken]))
    grey_enough = [value for value in BACKGROUNDS if distance(value, ANCHORS[taken][0]) > 110]
    return jittered(rng, rng.choice(grey_enough))


def distance(one: Rgb, other: Rgb) -> float:
    """Euclidean distance of two colours."""
    return math.dist(one, other)


def draw(rng: random.Random, colour: str, shape: str) -> Image.Image:
    """A picture of one shape, its size, place, tilt, background and finish left to `rng`."""
    long_side = rng.choice([32, 48, 64, 64, 80, 96, 128, 160])
    ratio = rng.choice([1, 1, 1, rng.uniform(0.55, 1)])
    width, height = (long_side, round(long_side * ratio))
    if rng.random() < 0.5:
        width, height = height, width
    ground = background(rng, colour)
    ink = shade(rng, colour)
    while distance(ink, ground) < 90:
        ground, ink = background(rng, colour), shade(rng, colour)
    image = Image.new("RGB", (width, height), ground)
    if shape == "plain":
        image = Image.new("RGB", (width, height), ink)
        return image
    scale = rng.uniform(0.34, 0.96) / 2
    stretched = rng.random() < 0.5
    radius = (width * scale, height * scale) if stretched else (min(width, height) * scale,) * 2
    centre = (rng.uniform(radius[0], width - radius[0]), rng.uniform(radius[1], height - radius[1]))
    if rng.random() < 0.4:
        centre = (width / 2, height / 2)
    tilt = rng.uniform(-0.12, 0.12) if rng.random() < 0.4 else 0.0
    pen = ImageDraw.Draw(image)
    corners = outline(shape, centre, radius, tilt)
    pen.polygon(corners, fill=ink)
    if rng.random() < 0.12:
        pen.line([*corners, corners[0]], fill=(0, 0, 0) if sum(ground) > 200 else (255, 255, 255), width=1)
    if rng.random() < 0.15:
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 0.9)))
    if rng.random() < 0.1:
        file = io.BytesIO()
        image.save(file, "JPEG", quality=rng.randint(60, 95))
        image = Image.open(file).convert("RGB")
    return image


def draw_any(rng: random.Random) -> tuple[Image.Image, str, str]:
    """A random picture with its colour and shape; the shape is "plain" for one colour all over."""
    colour = rng.choice(COLOURS)
    shape = "plain" if rng.random() < 0.06 else rng.choice(SHAPES)
    return draw(rng, colour, shape), colour, shape
