"""Put a person into a scene and take the picture.

Letters: H, W size of the picture; h, w = 2 H, 2 W size of the canvas it is drawn on.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from resolute.data.drawing.figure import draw_figure
from resolute.data.drawing.identity import Identity, draw_identity
from resolute.data.drawing.scene import draw_background, draw_cover
from resolute.data.drawing.shot import Camera, Shot, draw_shot


def draw_picture(
    person: Identity, shot: Shot, camera: Camera, *, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Draw one image of a person.

    Args:
        person: who.
        shot: how and in what light.
        camera: where.
        rng: draws scene, passers-by and grain.

    Returns:
        RGB, shape (H, W, 3), 0..255.
    """
    size = (2 * shot.width, 2 * shot.height)
    canvas = draw_background(rng, size, camera.place)
    if shot.passer:
        _place(canvas, draw_identity(rng), draw_shot(rng, camera), across=shot.passer, rng=rng)
    _place(canvas, person, shot, across=shot.across, rng=rng)
    draw_cover(ImageDraw.Draw(canvas), rng, size, shot.cover)
    return _expose(canvas, shot, camera, rng)


def _place(
    canvas: Image.Image, person: Identity, shot: Shot, *, across: float, rng: np.random.Generator
) -> None:
    """Draw a figure with rounded shading, folds and a shadow at its feet."""
    w, h = canvas.size
    unit = shot.body * h
    foot, column = shot.foot * h, across * w
    shadow = (column - 0.16 * unit, foot - 0.03 * unit, column + 0.16 * unit, foot + 0.02 * unit)
    ImageDraw.Draw(canvas).ellipse(shadow, fill=(70, 70, 72))
    layer = Image.new("RGBA", canvas.size)
    draw_figure(layer, person, shot.pose, top=(column, foot - unit), unit=unit)
    mask = layer.getchannel("A")
    inside = np.asarray(mask.filter(ImageFilter.BoxBlur(unit / 40)), dtype=np.uint32)
    creases = rng.integers(0, 64, size=(h // 16 + 1, w // 10 + 1), dtype=np.uint8)
    folds = np.asarray(
        Image.fromarray(creases).resize(canvas.size, Image.Resampling.BILINEAR), dtype=np.uint32
    )
    light = (inside + folds + 96)[:, :, None]  # (h, w, 1): 383 = as painted
    body = (np.asarray(layer)[:, :, :3] * light // 383).clip(0, 255).astype(np.uint8)
    canvas.paste(Image.fromarray(body), (0, 0), mask)


def _expose(
    canvas: Image.Image, shot: Shot, camera: Camera, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Halve the size, blur, then apply light, cast, contrast and grain."""
    small = canvas.reduce(2).filter(ImageFilter.GaussianBlur(shot.blur))
    pixels = np.asarray(small, dtype=np.float32)  # (H, W, 3)
    h, w, _ = pixels.shape
    slope = 1 + shot.slope * (np.arange(w, dtype=np.float32) / w - 0.5)
    pixels = pixels * slope[None, :, None] * np.array(shot.gains, dtype=np.float32)
    pixels = (pixels - camera.haze) * np.float32(shot.contrast) + camera.haze
    # The sum of three bytes is close enough to a bell curve, and exact on every machine.
    grain = rng.integers(0, 256, size=(3, h, w, 3), dtype=np.uint8).sum(axis=0, dtype=np.int64)
    pixels += (grain - 383).astype(np.float32) * np.float32(shot.noise / 128)
    image: NDArray[np.uint8] = np.rint(pixels).clip(0, 255).astype(np.uint8)
    return image
