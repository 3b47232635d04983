"""Activation maps as pictures: an image beside itself under each of its maps.

Letters: C channels, h, w size of a map, H, W of the picture in pixels.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from resolute.core.errors import ShapeError

# Dark to light without turning back: more is lighter for every eye and on every printer.
_STOPS = np.array(
    [[12, 10, 62], [82, 22, 132], [168, 42, 120], [228, 92, 62], [250, 170, 44], [255, 246, 184]]
)
_OPACITY = 0.55
_CLIPPED = (0.05, 0.95)
_GAP = 4  # pixels between tiles
_LONGEST_NAME = 120

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]


def energy(features: NDArray[np.floating]) -> Floats:
    """Turn one deep map into one number per place, 0 the least and 1 the most of this image.

    The number is the Euclidean length over the channels. It says how strongly a place is
    represented, not how much it decides about a match. The lowest and highest twentieth are
    clipped: a few corners that padding has blown up would hide all else [ours].

    Args:
        features: shape (C, h, w).

    Returns:
        Shape (h, w), in 0..1; all 0 where the map is even.

    Raises:
        ShapeError: if the map has another number of axes.
    """
    if features.ndim != 3:
        raise ShapeError(f"features: expected (C, h, w), got {features.shape}")
    lengths: Floats = np.sqrt((features.astype(np.float32) ** 2).sum(axis=0))  # (h, w)
    low, high = np.quantile(lengths, _CLIPPED)
    if high <= low:
        low, high = lengths.min(), lengths.max()
    if high <= low:
        return np.zeros_like(lengths)
    clipped: Floats = np.clip((lengths - low) / (high - low), 0, 1).astype(np.float32)
    return clipped


def colours(values: NDArray[np.floating]) -> Pixels:
    """Colour numbers from dark blue over red to light yellow.

    Args:
        values: in 0..1, any shape.

    Returns:
        RGB, the same shape with a last axis of 3.
    """
    places = np.clip(values, 0, 1) * (len(_STOPS) - 1)
    channels = [np.interp(places, np.arange(len(_STOPS)), stop) for stop in _STOPS.T]
    rounded: Pixels = np.rint(np.stack(channels, axis=-1)).astype(np.uint8)
    return rounded


def draw_maps(
    pixels: Pixels, maps: Mapping[str, NDArray[np.floating]], *, size: tuple[int, int]
) -> Image.Image:
    """Draw an image and, to its right, the image under each of its maps.

    Args:
        pixels: RGB at native size, shape (h0, w0, 3).
        maps: deep maps (C, h, w) by name, drawn in their order.
        size: (height, width) in pixels of each tile.

    Returns:
        RGB, ``size[0]`` high.
    """
    height, width = size
    picture = Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR)
    tiles = [picture]
    for features in maps.values():
        heat = Image.fromarray(energy(features)).resize((width, height), Image.Resampling.BILINEAR)
        tiles.append(Image.blend(picture, Image.fromarray(colours(np.asarray(heat))), _OPACITY))
    row = Image.new("RGB", (len(tiles) * (width + _GAP) - _GAP, height), "white")
    for number, tile in enumerate(tiles):
        row.paste(tile, (number * (width + _GAP), 0))
    return row


def write_maps(picture: Image.Image, folder: Path, *, key: str, position: int, title: str) -> Path:
    """Write a drawing under a name made of position and key.

    Args:
        picture: what to write.
        folder: exists.
        key: of the record; no part of it becomes a folder.
        position: of the record, which keeps names apart and in order.
        title: what the tiles are, kept inside the file.

    Returns:
        The PNG file.
    """
    info = PngInfo()
    info.add_itxt("Description", title)
    path = folder / f"{position:05d}_{_safe(key)}.png"
    picture.save(path, pnginfo=info)
    return path


def _safe(key: str) -> str:
    """Escape all but letters, digits and ``_.-~``, and shorten what no file system takes."""
    name = quote(key, safe="")
    if len(name) <= _LONGEST_NAME:
        return name
    return f"{name[:_LONGEST_NAME]}-{hashlib.sha256(key.encode()).hexdigest()[:12]}"
