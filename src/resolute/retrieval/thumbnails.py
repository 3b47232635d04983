"""Small pictures to show beside a hit."""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

HEIGHT = 160  # pixels [ours]: enough to tell people apart, about 4 kB
_QUALITY = 85


def thumbnail_of(pixels: NDArray[np.uint8], *, height: int = HEIGHT) -> bytes:
    """Encode pixels as a small JPEG; what else a file carried (place, device) is left behind.

    Args:
        pixels: RGB, shape (H, W, 3), 0..255.
        height: tallest picture to make, in pixels; smaller ones keep their size.

    Returns:
        The bytes of a JPEG file.
    """
    image = Image.fromarray(pixels)
    if image.height > height:
        width = max(1, round(image.width * height / image.height))
        image = image.resize((width, height), Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=_QUALITY)
    return stream.getvalue()
