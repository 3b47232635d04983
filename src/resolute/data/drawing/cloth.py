"""Cloth: patterns that repeat every few pixels, and shapes printed on a chest.

Letters: h, w size of a piece of cloth in canvas pixels.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from resolute.data.drawing.identity import CLOTH_COLOURS, Cloth

RGB = tuple[int, int, int]
Point = tuple[float, float]
Grid = NDArray[np.int64]
Mask = NDArray[np.bool_]

# Each takes columns (1, w), rows (h, 1) and the repeat in pixels, and says where the second
# colour lies. Whole numbers throughout: the same cloth on every machine.
PATTERNS: dict[str, Callable[[Grid, Grid, int], Mask]] = {
    "bands": lambda x, y, p: np.broadcast_to(2 * (y % p) < p, (len(y), x.shape[1])),
    "pinstripes": lambda x, y, p: np.broadcast_to(5 * (x % p) < 2 * p, (len(y), x.shape[1])),
    "checks": lambda x, y, p: (3 * (x % p) < p) | (3 * (y % p) < p),
    "dots": lambda x, y, p: (
        (2 * ((x + p // 2 * (y // p % 2)) % p) - p) ** 2 + (2 * (y % p) - p) ** 2 < p * p // 2
    ),
    "diagonal": lambda x, y, p: 2 * ((x + y) % p) < p,
    "zigzag": lambda x, y, p: 2 * ((y + np.abs(x % (2 * p) - p)) % p) < p,
    "chequers": lambda x, y, p: (x // (p // 2) + y // (p // 2)) % 2 == 0,
}

_UNIT_SHAPES: dict[str, tuple[Point, ...]] = {
    "square": ((-0.45, -0.45), (0.45, -0.45), (0.45, 0.45), (-0.45, 0.45)),
    "triangle": ((0.0, -0.5), (0.5, 0.45), (-0.5, 0.45)),
    "diamond": ((0.0, -0.6), (0.42, 0.0), (0.0, 0.6), (-0.42, 0.0)),
    "heart": ((0.0, 0.55), (-0.5, 0.0), (-0.42, -0.4), (0.0, -0.2), (0.42, -0.4), (0.5, 0.0)),
}
_UNIT_STROKES: dict[str, tuple[tuple[Point, Point], ...]] = {
    "cross": (((-0.5, 0.0), (0.5, 0.0)), ((0.0, -0.5), (0.0, 0.5))),
    "saltire": (((-0.42, -0.42), (0.42, 0.42)), ((-0.42, 0.42), (0.42, -0.42))),
    "bars": tuple(((-0.5, y), (0.5, y)) for y in (-0.4, 0.0, 0.4)),
}


def shaded(name: str, light: float) -> RGB:
    """Look up a cloth colour and darken or lighten it.

    Args:
        name: key of ``CLOTH_COLOURS``.
        light: factor, 1 leaves it.

    Returns:
        RGB, 0..255.
    """
    return scaled(CLOTH_COLOURS[name], light)


def scaled(colour: RGB, light: float) -> RGB:
    """Darken or lighten a colour.

    Args:
        colour: RGB, 0..255.
        light: factor, 1 leaves it.

    Returns:
        RGB, 0..255.
    """
    red, green, blue = (min(255, int(c * light)) for c in colour)
    return red, green, blue


def lay_cloth(
    canvas: Image.Image,
    cloth: Cloth,
    pieces: Sequence[Sequence[Point]],
    *,
    origin: Point,
    unit: float,
    light: float = 1.0,
) -> None:
    """Cover polygons with a cloth; the pattern hangs on the body, not on the image.

    Args:
        canvas: RGBA image, drawn on in place.
        cloth: what to cover them with.
        pieces: polygons in canvas pixels.
        origin: where the pattern starts, in canvas pixels.
        unit: body height in canvas pixels.
        light: factor on both colours.
    """
    base = shaded(cloth.base, light)
    if cloth.pattern == "plain":
        draw = ImageDraw.Draw(canvas)
        for piece in pieces:
            draw.polygon(piece, fill=(*base, 255))
        return
    left, top = (math.floor(min(p[k] for piece in pieces for p in piece)) for k in (0, 1))
    right, bottom = (math.ceil(max(p[k] for piece in pieces for p in piece)) + 1 for k in (0, 1))
    mask = Image.new("L", (right - left, bottom - top))
    stencil = ImageDraw.Draw(mask)
    for piece in pieces:
        stencil.polygon([(x - left, y - top) for x, y in piece], fill=255)
    texture = _texture(cloth, base, shaded(cloth.second, light), mask.size, unit=unit,
                       offset=(left - round(origin[0]), top - round(origin[1])))  # fmt: skip
    canvas.paste(texture, (left, top), mask)


def stamp(draw: ImageDraw.ImageDraw, shape: str, centre: Point, size: Point, fill: RGB) -> None:
    """Draw a printed shape.

    Args:
        draw: where to.
        shape: name of the shape.
        centre: its middle in canvas pixels.
        size: its width and height in canvas pixels.
        fill: its colour.
    """
    (x, y), (w, h) = centre, size
    box = (x - w / 2, y - h / 2, x + w / 2, y + h / 2)
    stroke = max(2, round(h / 5))
    if shape == "disc":
        draw.ellipse(box, fill=fill)
    elif shape == "ring":
        draw.ellipse(box, outline=fill, width=stroke)
    elif shape in _UNIT_SHAPES:
        draw.polygon([(x + w * u, y + h * v) for u, v in _UNIT_SHAPES[shape]], fill=fill)
    else:
        for (u0, v0), (u1, v1) in _UNIT_STROKES[shape]:
            ends = (x + w * u0, y + h * v0, x + w * u1, y + h * v1)
            draw.line(ends, fill=fill, width=stroke)


def _texture(
    cloth: Cloth,
    base: RGB,
    second: RGB,
    size: tuple[int, int],
    *,
    unit: float,
    offset: tuple[int, int],
) -> Image.Image:
    columns = np.arange(offset[0], offset[0] + size[0])[None, :]
    rows = np.arange(offset[1], offset[1] + size[1])[:, None]
    where = PATTERNS[cloth.pattern](columns, rows, max(4, round(cloth.period * unit)))  # (h, w)
    colours = np.array([(*base, 255), (*second, 255)], dtype=np.uint8)
    return Image.fromarray(colours[where.astype(np.intp)])  # (h, w, 4)
