"""Draw where people walk: two places, what stands in them, and what hides a part of a person.

Letters: h, w size of the canvas in pixels, twice that of the image.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from resolute.data.drawing.cloth import RGB, scaled
from resolute.data.drawing.identity import CLOTH_COLOURS, pick, uniform

_WALLS: dict[str, tuple[RGB, ...]] = {
    "plaza": ((176, 164, 146), (150, 140, 130), (196, 188, 176), (120, 104, 92)),
    "street": ((122, 134, 120), (98, 110, 98), (140, 144, 150), (108, 112, 122)),
}
_FLOORS: dict[str, tuple[RGB, ...]] = {
    "plaza": ((186, 176, 160), (160, 152, 142), (204, 198, 190)),
    "street": ((104, 106, 110), (126, 128, 130), (92, 110, 84)),
}
_FURNITURE: dict[str, dict[str, int]] = {
    "plaza": {"window": 3, "door": 2, "poster": 3, "pillar": 2, "bin": 1},
    "street": {"car": 3, "tree": 3, "fence": 2, "window": 1, "pillar": 1, "bin": 1},
}


def draw_background(rng: np.random.Generator, size: tuple[int, int], place: str) -> Image.Image:
    """Draw wall, floor and what stands about.

    Args:
        rng: the generator of this image.
        size: (width, height) of the canvas in pixels.
        place: ``plaza`` or ``street``.

    Returns:
        RGB image.
    """
    w, h = size
    horizon = int(h * uniform(rng, 0.45, 0.85))
    floor = _choice(rng, _FLOORS[place])
    image = Image.new("RGB", size, _choice(rng, _WALLS[place]))
    pen = ImageDraw.Draw(image)
    _courses(pen, rng, (w, horizon))
    pen.rectangle((0, horizon, w, h), fill=floor)
    _paving(pen, rng, (w, h), horizon, floor)
    for _ in range(int(rng.integers(2, 6))):
        kind = pick(rng, _FURNITURE[place])
        _FURNISH[kind](pen, rng, (w, h), horizon)
    return Image.fromarray(_mottled(np.asarray(image), rng))


def draw_cover(
    pen: ImageDraw.ImageDraw, rng: np.random.Generator, size: tuple[int, int], kind: str
) -> None:
    """Draw what stands between camera and person.

    Args:
        pen: handle on the canvas.
        rng: the generator of this image.
        size: (width, height) of the canvas in pixels.
        kind: ``none``, ``pole``, ``bonnet`` or ``bush``.
    """
    w, h = size
    if kind == "pole":
        x = int(w * uniform(rng, 0.1, 0.9))
        pen.rectangle((x, 0, x + w // 9, h), fill=(88, 90, 94))
        pen.line((x + w // 27, 0, x + w // 27, h), fill=(130, 132, 136), width=3)
    elif kind == "bonnet":
        y = int(h * uniform(rng, 0.72, 0.85))
        paint = _any_colour(rng)
        pen.polygon([(0, y), (w * 7 // 10, y), (w, y + h // 12), (w, h), (0, h)], fill=paint)
        pen.line((0, y + 3, w * 7 // 10, y + 3), fill=(220, 222, 226), width=3)
    elif kind == "bush":
        _leaves(pen, rng, (int(w * uniform(rng, 0.0, 1.0)), h), w // 3, 24)


def _choice(rng: np.random.Generator, colours: tuple[RGB, ...]) -> RGB:
    return colours[int(rng.integers(len(colours)))]


def _any_colour(rng: np.random.Generator) -> RGB:
    return _choice(rng, tuple(CLOTH_COLOURS.values()))


def _courses(pen: ImageDraw.ImageDraw, rng: np.random.Generator, size: tuple[int, int]) -> None:
    """Draw joints of bricks or panels on a wall."""
    w, h = size
    course = int(rng.integers(10, 60))
    shade = int(rng.integers(70, 150))
    for row, y in enumerate(range(int(rng.integers(course)), h, course)):
        pen.line((0, y, w, y), fill=(shade, shade, shade))
        shift = course if row % 2 else 0
        for x in range(shift - course, w, 2 * course):
            pen.line((x, y, x, y + course), fill=(shade, shade, shade))


def _paving(
    pen: ImageDraw.ImageDraw,
    rng: np.random.Generator,
    size: tuple[int, int],
    horizon: int,
    floor: RGB,
) -> None:
    """Draw floor joints that run to a vanishing point, and a kerb."""
    w, h = size
    joint = scaled(floor, 0.84)
    vanish = int(rng.integers(-w, 2 * w))
    for foot in range(-2 * w, 3 * w, int(rng.integers(20, 60))):
        pen.line((vanish + (foot - vanish) // 3, horizon, foot, h), fill=joint)
    y, step = float(horizon), 4.0
    while y < h:
        pen.line((0, int(y), w, int(y)), fill=joint)
        y, step = y + step, step * 1.5
    if rng.integers(3) == 0:
        drop = int(rng.integers(-h // 10, h // 10))
        pen.line((0, horizon + h // 12, w, horizon + h // 12 + drop), fill=(206, 204, 196), width=5)


def _mottled(pixels: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Lay coarse stains over a picture, so that no surface is one colour."""
    h, w, _ = pixels.shape
    stains = rng.integers(196, 256, size=(h // 12 + 1, w // 12 + 1), dtype=np.uint8)
    field = np.asarray(Image.fromarray(stains).resize((w, h), Image.Resampling.BILINEAR))
    stained = pixels.astype(np.uint16) * field[:, :, None] // 226  # (h, w, 3)
    image: NDArray[np.uint8] = stained.clip(0, 255).astype(np.uint8)
    return image


def _window(
    pen: ImageDraw.ImageDraw, rng: np.random.Generator, size: tuple[int, int], horizon: int
) -> None:
    w, h = size
    x, y = int(rng.integers(-w // 3, w)), int(rng.integers(0, max(1, horizon - h // 6)))
    width, height = int(rng.integers(w // 4, w)), int(rng.integers(h // 8, h // 3))
    glass = int(rng.integers(40, 150))
    pen.rectangle(
        (x, y, x + width, y + height),
        fill=(glass, glass + 8, glass + 18),
        outline=(60, 58, 56),
        width=4,
    )
    pen.line((x + width // 2, y, x + width // 2, y + height), fill=(60, 58, 56), width=3)
    pen.line(
        (x + 6, y + height - 8, x + width // 3, y + 6),
        fill=(glass + 40, glass + 44, glass + 48),
        width=5,
    )


def _door(
    pen: ImageDraw.ImageDraw, rng: np.random.Generator, size: tuple[int, int], horizon: int
) -> None:
    w, h = size
    x, width = int(rng.integers(-w // 4, w)), int(rng.integers(w // 4, w // 2))
    top = horizon - int(rng.integers(h // 4, h // 2))
    pen.rectangle(
        (x, top, x + width, horizon), fill=_any_colour(rng), outline=(50, 46, 42), width=4
    )
    pen.ellipse(
        (x + width - 14, horizon - h // 6, x + width - 8, horizon - h // 6 + 6),
        fill=(210, 190, 120),
    )


def _poster(
    pen: ImageDraw.ImageDraw, rng: np.random.Generator, size: tuple[int, int], horizon: int
) -> None:
    w, h = size
    x, y = int(rng.integers(-w // 6, w)), int(rng.integers(0, max(1, horizon - h // 8)))
    width, height = w // 4, h // 7
    pen.rectangle((x, y, x + width, y + height), fill=_any_colour(rng))
    pen.ellipse((x + 6, y + 6, x + width - 6, y + height // 2), fill=_any_colour(rng))
    for line in range(3):
        below = y + height * (6 + line) // 10
        pen.line((x + 6, below, x + width - 6, below), fill=(40, 40, 40), width=2)


def _pillar(
    pen: ImageDraw.ImageDraw, rng: np.random.Generator, size: tuple[int, int], horizon: int
) -> None:
    w, h = size
    x, width = int(rng.integers(-w // 8, w)), int(rng.integers(w // 16, w // 5))
    grey = int(rng.integers(70, 210))
    foot = horizon + h // 16
    pen.rectangle((x, 0, x + width, foot), fill=(grey, grey, grey - 8))
    pen.rectangle((x, 0, x + width // 4, foot), fill=(grey - 26, grey - 26, grey - 32))


def _bin(
    pen: ImageDraw.ImageDraw, rng: np.random.Generator, size: tuple[int, int], horizon: int
) -> None:
    w, h = size
    x, foot = int(rng.integers(-w // 8, w)), horizon + int(rng.integers(h // 20, h // 8))
    pen.polygon(
        [(x, foot - h // 6), (x + w // 5, foot - h // 6), (x + w // 6, foot), (x + w // 30, foot)],
        fill=_any_colour(rng),
    )
    pen.rectangle((x - 2, foot - h // 6 - 6, x + w // 5 + 2, foot - h // 6 + 2), fill=(58, 60, 62))


def _car(
    pen: ImageDraw.ImageDraw, rng: np.random.Generator, size: tuple[int, int], horizon: int
) -> None:
    w, h = size
    x, foot = int(rng.integers(-w, w)), horizon + int(rng.integers(0, h // 12))
    length, tall = int(w * 1.3), h // 4
    paint = _any_colour(rng)
    roof = [
        (x + length // 5, foot - tall),
        (x + length * 7 // 10, foot - tall),
        (x + length * 4 // 5, foot - tall // 2),
        (x + length // 10, foot - tall // 2),
    ]
    pen.polygon(roof, fill=(62, 72, 84), outline=paint, width=5)
    pen.rectangle((x, foot - tall // 2, x + length, foot - 8), fill=paint)
    for wheel in (length // 5, length * 4 // 5):
        centre = x + wheel
        pen.ellipse(
            (centre - tall // 5, foot - tall // 3, centre + tall // 5, foot + tall // 14),
            fill=(34, 34, 36),
        )


def _tree(
    pen: ImageDraw.ImageDraw, rng: np.random.Generator, size: tuple[int, int], horizon: int
) -> None:
    w, h = size
    x = int(rng.integers(0, w))
    pen.rectangle((x, h // 8, x + w // 12, horizon + h // 40), fill=(84, 66, 50))
    _leaves(pen, rng, (x, h // 10), w // 3, 16)


def _leaves(
    pen: ImageDraw.ImageDraw,
    rng: np.random.Generator,
    centre: tuple[int, int],
    reach: int,
    count: int,
) -> None:
    for dx, dy, radius, green in rng.integers(
        (-reach, -reach, reach // 8, 60), (reach, reach, reach // 3, 130), size=(count, 4)
    ).tolist():
        x, y = centre[0] + dx, centre[1] + dy
        pen.ellipse(
            (x - radius, y - radius, x + radius, y + radius),
            fill=(green - 20, green + 10, green - 30),
        )


def _fence(
    pen: ImageDraw.ImageDraw, rng: np.random.Generator, size: tuple[int, int], horizon: int
) -> None:
    w, h = size
    grey, gap = int(rng.integers(50, 200)), int(rng.integers(10, 26))
    top, foot = horizon - h // 6, horizon + h // 30
    for x in range(int(rng.integers(gap)), w, gap):
        pen.line((x, top, x, foot), fill=(grey, grey, grey), width=3)
    for y in (top, (top + foot) // 2):
        pen.line((0, y, w, y), fill=(grey, grey, grey), width=4)


_FURNISH = {
    "window": _window, "door": _door, "poster": _poster, "pillar": _pillar, "bin": _bin,
    "car": _car, "tree": _tree, "fence": _fence,
}  # fmt: skip
