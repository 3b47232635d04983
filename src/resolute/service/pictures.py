"""Images of a request, decoded with limits.

Letters: H, W native height and width in pixels.
"""

from collections.abc import Sequence

from resolute.data.decode import DecodeLimits, decode_image
from resolute.inference.native import resolution_flags
from resolute.service.embedder import Picture
from resolute.service.problem import Problem

_MAX_SIDE = 8192


def decode_all(
    files: Sequence[bytes], *, resolution: str, max_pixels: int, max_bytes: int
) -> list[Picture]:
    """Decode the images of one request.

    Args:
        files: bytes of each.
        resolution: ``hr``, ``lr`` or ``auto``, of all.
        max_pixels: of all images together.
        max_bytes: of one file.

    Returns:
        Pairs of RGB pixels (H, W, 3), uint8, and resolution flag.

    Raises:
        Problem: if there is none.
    """
    if not files:
        raise Problem(422, "bad_value", "expected at least one image, got none")
    flags = resolution_flags(resolution, len(files)).tolist()
    pictures: list[Picture] = []
    left = max_pixels
    for number, content in enumerate(files, start=1):
        limits = DecodeLimits(max_bytes=max_bytes, max_pixels=left, max_side=_MAX_SIDE)
        pixels = decode_image(content, name=f"image {number}", limits=limits)
        left -= pixels.shape[0] * pixels.shape[1]
        pictures.append((pixels, flags[number - 1]))
    return pictures
