"""Decode image files without trusting them.

A file from a person or a network may be cut short, lie about its size or be no image at all.
Each of these is one :class:`DatasetError` that names the file and the remedy.
Letters: H, W native height and width in pixels.
"""

import io
import os
import re
import stat
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NoReturn

import numpy as np
from numpy.typing import NDArray
from PIL import BmpImagePlugin, Image, ImageFile, JpegImagePlugin, PngImagePlugin, WebPImagePlugin

from resolute.core.errors import DatasetError

# What lies under a see-through pixel: close to the mean the networks subtract, so that an empty
# area says little [ours].
_BACKGROUND = 128
_REMEDY = "replace or remove the file"
_ORIENTATION_TAG = 0x0112
_MIXED_ROWS = 64  # at a time: see-through pixels need several arrays on the way [ours]

# The errors Pillow's four readers raise on broken bytes. Warnings stand here for callers who turn
# warnings into errors.
_BROKEN = (OSError, SyntaxError, ValueError, TypeError, IndexError, KeyError, EOFError,
           AssertionError, OverflowError, NotImplementedError, struct.error, MemoryError,
           Image.DecompressionBombError, Warning)  # fmt: skip

# Opened by class and never through `Image.open`: no format can be registered from outside, and
# Pillow's process-wide pixel limit, which only warns up to twice its value, plays no part.
_READERS: dict[str, Callable[[BinaryIO], ImageFile.ImageFile]] = {
    "JPEG": JpegImagePlugin.JpegImageFile,
    "PNG": PngImagePlugin.PngImageFile,
    "BMP": BmpImagePlugin.BmpImageFile,
    "WEBP": WebPImagePlugin.WebPImageFile,
}

_SCAN, _END = 0xDA, 0xD9
_BARE_MARKERS = frozenset({0x01, *range(0xD0, 0xD9)})  # no length follows these
# The next marker: FF before a byte that is neither stuffing, nor a restart within a scan, nor FF.
_MARKER = re.compile(rb"\xff+([^\x00\xd0-\xd7\xff])", re.DOTALL)

# EXIF orientation -> what turns the stored picture upright [EXIF 2.3, tag 274].
_UPRIGHT: dict[int, Callable[[NDArray[np.uint8]], NDArray[np.uint8]]] = {
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: a[::-1].swapaxes(0, 1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: a[:, ::-1].swapaxes(0, 1),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodeLimits:
    """How large a file may be before it is refused; checked before any pixel is decoded.

    Attributes:
        max_bytes: size of the file.
        max_pixels: height times width; one frame of a 50 megapixel camera passes [ours].
        max_side: height or width in pixels; a line of 50 million pixels is no picture [ours].
        max_scans: of a JPEG; a progressive one has about ten, and each costs a pass over all
            pixels, however few bytes it has [ours].
    """

    max_bytes: int = 64 * 2**20
    max_pixels: int = 51_000_000
    max_side: int = 16_384
    max_scans: int = 64


LIMITS = DecodeLimits()


@dataclass(frozen=True, slots=True)
class FileSource:
    """Pixels from an image file.

    Attributes:
        path: the file.
    """

    path: Path

    def pixels(self) -> NDArray[np.uint8]:
        """Decode the file, see :func:`decode_image`."""
        return decode_image(self.path)

    def token(self) -> str:
        """Return path, size and time of change, for cache keys.

        The whole path: VIPeR's bitmaps all have one size, and unpacking gives files of equal
        names in two folders one time of change.

        Raises:
            DatasetError: if the file is gone.
        """
        state = _state(self.path)
        return f"{self.path.absolute().as_posix()}:{state.st_size}:{state.st_mtime_ns}"


def decode_image(
    source: str | os.PathLike[str] | bytes,
    *,
    name: str = "image bytes",
    limits: DecodeLimits = LIMITS,
) -> NDArray[np.uint8]:
    """Decode a JPEG, PNG, BMP or WebP image into upright 8-bit RGB.

    The content decides the format, not the file's suffix. Grey and palette images become RGB,
    16-bit grey keeps its high byte, see-through pixels are laid over mid-grey, the EXIF
    orientation is applied, and of an animation the first frame is taken. No global setting of
    Pillow is changed, so any number of threads may decode. One is read: a program that sets
    ``ImageFile.LOAD_TRUNCATED_IMAGES`` has asked for cut files, and gets them here too.

    Args:
        source: a path, or the bytes of the file.
        name: what messages call bytes that have no path.
        limits: sizes that are refused.

    Returns:
        RGB, shape (H, W, 3), uint8, 0..255, contiguous, writable.

    Raises:
        DatasetError: if the file is missing, empty, too large, truncated or no such image, or a
            JPEG of very many scans.
    """
    if not isinstance(source, bytes):
        name, source = str(source), _read(Path(source), limits)
    if len(source) > limits.max_bytes:
        _refuse_bytes(name, len(source), limits)
    image, orientation = _open(io.BytesIO(source), name, limits)
    if image.format == "JPEG":
        _check_scans(source, name, limits)
    try:
        pixels = _to_rgb(image)  # (H, W, 3) as stored
    except _BROKEN as error:
        raise DatasetError(
            f"{name}: the {image.format} image is truncated or damaged ({error}); {_REMEDY}"
        ) from error
    if orientation in _UPRIGHT:
        pixels = _UPRIGHT[orientation](pixels)  # (H, W, 3) upright
    return np.ascontiguousarray(pixels)


def image_size(path: str | os.PathLike[str], *, limits: DecodeLimits = LIMITS) -> tuple[int, int]:
    """Read the size of an image from its header alone.

    Args:
        path: the file.
        limits: sizes that are refused.

    Returns:
        (height, width) in pixels of what :func:`decode_image` would return.

    Raises:
        DatasetError: if the file is missing, empty, too large or no such image.
    """
    path = Path(path)
    _checked_size(path, limits)
    try:
        with path.open("rb") as stream:
            image, orientation = _open(stream, str(path), limits)
            width, height = image.size
    except DatasetError:
        raise
    except OSError as error:
        _refuse_path(path, error)
    return (width, height) if orientation >= 5 else (height, width)


def _state(path: Path) -> os.stat_result:
    try:
        return path.stat()
    except (OSError, ValueError) as error:
        _refuse_path(path, error)


def _checked_size(path: Path, limits: DecodeLimits) -> int:
    state = _state(path)
    if not stat.S_ISREG(state.st_mode):
        raise DatasetError(f"{path}: expected an image file, got a folder or device")
    if state.st_size > limits.max_bytes:
        _refuse_bytes(str(path), state.st_size, limits)
    return state.st_size


def _read(path: Path, limits: DecodeLimits) -> bytes:
    size = _checked_size(path, limits)
    try:
        with path.open("rb") as stream:
            content = stream.read(size + 1)
    except OSError as error:
        _refuse_path(path, error)
    if len(content) > size:
        raise DatasetError(f"{path}: the file grew while it was read; try again when it is whole")
    return content


def _refuse_path(path: Path, error: OSError | ValueError) -> NoReturn:
    reason = getattr(error, "strerror", None) or str(error)
    raise DatasetError(f"{path}: cannot be read: {reason.lower()}") from error


def _refuse_bytes(name: str, size: int, limits: DecodeLimits) -> NoReturn:
    raise DatasetError(
        f"{name}: {size} bytes, more than the {limits.max_bytes} allowed for one image; {_REMEDY}"
    )


def _open(stream: BinaryIO, name: str, limits: DecodeLimits) -> tuple[ImageFile.ImageFile, int]:
    # The image with its header read and no pixel decoded, and its EXIF orientation 1..8.
    head = stream.read(30)
    stream.seek(0)
    if not head:
        raise DatasetError(f"{name}: the file is empty; {_REMEDY}")
    kind = _format(head)
    if not kind:
        raise DatasetError(
            f"{name}: expected a JPEG, PNG, BMP or WebP image, got something else; {_REMEDY}"
        )
    if kind == "WEBP":
        # Its reader allocates the whole canvas when it opens, so the size is looked at before.
        _check_size(_webp_size(head), name, limits)
    try:
        image = _READERS[kind](stream)
    except _BROKEN as error:
        raise DatasetError(
            f"{name}: the header of this {kind} image is truncated or damaged ({error}); {_REMEDY}"
        ) from error
    _check_size(image.size, name, limits)
    # Read before the pixels are: a PNG may repeat the tag behind them, and size and pixels
    # must agree.
    exif = image.info.get("exif")  # text where a PNG's own text chunk is called so
    return image, _orientation(exif) if isinstance(exif, bytes) else 1


def _format(head: bytes) -> str:
    if head.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "WEBP"
    return "BMP" if head.startswith(b"BM") else ""


def _webp_size(head: bytes) -> tuple[int, int]:
    """Read (width, height) from the first 30 bytes; (0, 0) for a chunk libwebp refuses too."""
    kind = head[12:16]
    if kind == b"VP8X":
        return 1 + int.from_bytes(head[24:27], "little"), 1 + int.from_bytes(head[27:30], "little")
    if kind == b"VP8L":
        bits = int.from_bytes(head[21:25], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if kind == b"VP8 ":
        width, height = head[26:28], head[28:30]
        return (
            int.from_bytes(width, "little") & 0x3FFF,
            int.from_bytes(height, "little") & 0x3FFF,
        )
    return 0, 0


def _check_size(size: tuple[int, int], name: str, limits: DecodeLimits) -> None:
    width, height = size
    if max(size) > limits.max_side or width * height > limits.max_pixels:
        raise DatasetError(
            f"{name}: the header declares {height}x{width} pixels (height x width), more than "
            f"{limits.max_pixels} or a side over {limits.max_side}; {_REMEDY}"
        )


def _check_scans(source: bytes, name: str, limits: DecodeLimits) -> None:
    if source.count(b"\xff\xda") > limits.max_scans < _num_scans(source):
        raise DatasetError(
            f"{name}: the JPEG image has more than {limits.max_scans} scans; {_REMEDY}"
        )


def _num_scans(source: bytes) -> int:
    """Count the scans of a JPEG up to its end marker: what lies in segments or behind is none."""
    position, found = 2, 0
    while marker := _MARKER.search(source, position):
        kind, position = marker[1][0], marker.end()
        if kind == _END:
            break
        if kind not in _BARE_MARKERS:
            found += kind == _SCAN
            position += int.from_bytes(source[position : position + 2], "big")
    return found


def _orientation(exif: bytes) -> int:
    """Find the orientation in an EXIF block; 1, upright, where it has none or is damaged."""
    tiff = exif.removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None:
        return 1
    try:
        (first,) = struct.unpack_from(f"{order}L", tiff, 4)
        (entries,) = struct.unpack_from(f"{order}H", tiff, first)
        for start in range(first + 2, first + 2 + 12 * entries, 12):
            tag, _, _, value = struct.unpack_from(f"{order}HHLH", tiff, start)
            if tag == _ORIENTATION_TAG:
                return value if 1 <= value <= 8 else 1
    except struct.error:
        return 1
    return 1


def _to_rgb(image: ImageFile.ImageFile) -> NDArray[np.uint8]:
    image.load()
    if image.mode.startswith("I"):
        grey = np.asarray(image).astype(np.uint32) >> 8  # (H, W)
        return np.repeat(grey.clip(0, 255).astype(np.uint8)[..., None], 3, axis=2)  # (H, W, 3)
    if not image.has_transparency_data:
        return np.array(image if image.mode == "RGB" else image.convert("RGB"))  # (H, W, 3)
    layers = np.asarray(image.convert("RGBA"))  # (H, W, 4)
    mixed = np.empty((*layers.shape[:2], 3), dtype=np.uint8)
    for top in range(0, len(layers), _MIXED_ROWS):
        rows = layers[top : top + _MIXED_ROWS].astype(np.uint16)  # 255 x 255 + 127 fits
        colour, alpha = rows[..., :3], rows[..., 3:]
        mixed[top : top + _MIXED_ROWS] = (colour * alpha + _BACKGROUND * (255 - alpha) + 127) // 255
    return mixed
