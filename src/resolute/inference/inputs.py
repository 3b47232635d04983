"""What a person may give as an image, turned into RGB pixels of its native size.

Letters: N images, H, W native height and width in pixels, C channels.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageOps
from torch import Tensor

from resolute.core.config import unknown_name
from resolute.core.errors import ConfigError, DatasetError, ShapeError
from resolute.data.decode import decode_image
from resolute.inference.ahead import decode_ahead

Pixels = NDArray[np.uint8]
ImageLike = str | os.PathLike[str] | bytes | Image.Image | NDArray[Any] | Tensor

CHANNEL_ORDERS = ("rgb", "bgr")
# What lies under a see-through pixel, as for files.
_BACKGROUND = 128


def each_image(
    images: ImageLike | Iterable[ImageLike],
    *,
    channel_order: str = "rgb",
    boxes: ArrayLike | None = None,
) -> Iterator[Callable[[], Pixels]]:
    """Go through images without decoding any: each comes as a call that gives its pixels.

    Args:
        images: one image or several: paths or bytes of JPEG, PNG, BMP or WebP files, PIL images
            of 8 bits per channel or 16 bits of grey, uint8 arrays (H, W, 3), (H, W, 4), (H, W, 1)
            or (H, W), or tensors (C, H, W), uint8 or floats in 0..1. An array or tensor with one
            more axis in front holds N images.
        channel_order: ``rgb`` or ``bgr``, of arrays and tensors; files and PIL images say it
            themselves.
        boxes: x1, y1, x2, y2 in pixels, shape (N, 4): the N crops of one given image. They are
            rounded to whole pixels and cut at the border of the image.

    Returns:
        Iterator over calls; each returns RGB, shape (H, W, 3), uint8, at native size, or raises
        DatasetError.

    Raises:
        ConfigError: if the channel order is unknown.
        ShapeError: if boxes are not (N, 4), or come with several images.
    """
    if channel_order not in CHANNEL_ORDERS:
        raise ConfigError(unknown_name("channel order", channel_order, list(CHANNEL_ORDERS)))
    items = _listed(images)
    if boxes is None:
        return (partial(read_pixels, item, i, channel_order) for i, item in enumerate(items))
    given = list(items)
    if len(given) != 1:
        raise ShapeError(f"boxes: expected one image to cut them from, got {len(given)}")
    frame = read_pixels(given[0], 0, channel_order)
    return (partial(lambda crop: crop, crop) for crop in crops(frame, boxes))


def decoded(
    images: ImageLike | Iterable[ImageLike],
    *,
    channel_order: str = "rgb",
    boxes: ArrayLike | None = None,
) -> Iterator[Pixels]:
    """Decode images in order, ahead in threads where there is more than one.

    Images are taken from an iterator in the caller's own thread, as a database cursor asks for.

    Args:
        images: as for :func:`each_image`.
        channel_order: as for :func:`each_image`.
        boxes: as for :func:`each_image`.

    Returns:
        Iterator over RGB, shape (H, W, 3), uint8, at native size; it raises DatasetError at an
        image that cannot be read.
    """
    tasks = each_image(images, channel_order=channel_order, boxes=boxes)
    first = list(islice(tasks, 2))
    if len(first) < 2 or boxes is not None:
        # A crop is a view already, and threads cost more than one image.
        return (task() for task in chain(first, tasks))
    return _whole(decode_ahead(chain(first, tasks), size=_size_of))


def _size_of(task: Callable[[], Pixels]) -> int:
    # What an image takes before it is decoded, as far as anyone can say.
    item = task.args[0] if isinstance(task, partial) else None
    if isinstance(item, bytes):
        return len(item)
    if isinstance(item, np.ndarray | Tensor):
        return item.nbytes
    if isinstance(item, Image.Image):
        return item.width * item.height * len(item.getbands())
    return 0


def _whole(results: Iterable[Pixels | DatasetError]) -> Iterator[Pixels]:
    for result in results:
        if isinstance(result, DatasetError):
            raise result
        yield result


def read_pixels(item: ImageLike, position: int, channel_order: str) -> Pixels:
    """Turn one image of any kind into pixels.

    Args:
        item: as for :func:`each_image`.
        position: where it stands among the images, for messages.
        channel_order: ``rgb`` or ``bgr``.

    Returns:
        RGB, shape (H, W, 3), uint8.

    Raises:
        DatasetError: if it cannot be read or is no image.
    """
    where = f"images[{position}]"
    if isinstance(item, str | os.PathLike):
        path = Path(item).expanduser()
        if path.is_dir():
            raise DatasetError(f"{path}: expected an image file, got a folder; list its files")
        return decode_image(path)
    if isinstance(item, bytes):
        return decode_image(item, name=where)
    if isinstance(item, Image.Image):
        return _from_pil(item, where)
    if isinstance(item, Tensor):
        return _from_array(_whole_levels(item, where), where, channel_order)
    if isinstance(item, np.ndarray):
        return _from_array(item, where, channel_order)
    raise DatasetError(
        f"{where}: expected a path, bytes, PIL image, array or tensor, got {type(item).__name__}"
    )


def crops(frame: Pixels, boxes: ArrayLike) -> list[Pixels]:
    """Cut boxes out of a picture at native size.

    Args:
        frame: RGB, shape (H, W, 3).
        boxes: x1, y1, x2, y2 in pixels, x2 and y2 just outside, shape (N, 4).

    Returns:
        N crops, views of the frame.

    Raises:
        ShapeError: if the boxes are not (N, 4).
        DatasetError: if a box is not finite, is turned inside out, or lies outside the picture.
    """
    corners = np.asarray(boxes, dtype=np.float64)
    if corners.size == 0:
        return []
    if corners.ndim != 2 or corners.shape[1] != 4:
        raise ShapeError(f"boxes: expected shape (N, 4) as x1, y1, x2, y2, got {corners.shape}")
    height, width = frame.shape[:2]
    limits = np.array([width, height, width, height])
    cut: list[Pixels] = []
    for i, box in enumerate(corners):
        if np.isfinite(box).all():
            x1, y1, x2, y2 = np.clip(np.rint(box), 0, limits).astype(int)
            if x1 < x2 and y1 < y2:
                cut.append(frame[y1:y2, x1:x2])
                continue
        raise DatasetError(
            f"boxes[{i}]: expected x1 < x2 and y1 < y2 inside a picture of {height}x{width} "
            f"(height x width), got {box.tolist()}"
        )
    return cut


def _listed(images: ImageLike | Iterable[ImageLike]) -> Iterable[ImageLike]:
    if isinstance(images, str | os.PathLike | bytes | Image.Image):
        return [images]
    if isinstance(images, np.ndarray | Tensor):
        if images.ndim == 4:
            return list(images)
        return [images] if images.ndim in (2, 3) else _refuse_axes(images)
    if not isinstance(images, Iterable):
        raise DatasetError(
            "images: expected a path, PIL image, array, tensor, or several of them, got "
            f"{type(images).__name__}"
        )
    if isinstance(images, list | tuple):
        return images
    # A generator may fill one array again, as OpenCV's VideoCapture.read(frame) does, and several
    # images are taken before the first is embedded.
    return map(_copied, images)


def _copied(item: ImageLike) -> ImageLike:
    if isinstance(item, np.ndarray):
        return item.copy()
    return item.clone() if isinstance(item, Tensor) else item


def _refuse_axes(images: NDArray[Any] | Tensor) -> list[ImageLike]:
    if images.ndim == 1 and images.shape[0] == 0:
        return []
    if isinstance(images, np.ndarray) and images.ndim == 1 and images.dtype.kind in "OUS":
        return [str(item) if isinstance(item, np.str_) else item for item in images]
    raise DatasetError(f"images: expected 2 to 4 axes, got shape {tuple(images.shape)}")


def _from_pil(image: Image.Image, where: str) -> Pixels:
    try:
        upright = ImageOps.exif_transpose(image)
        if upright.mode == "F":
            raise DatasetError(f"{where}: expected 8 bits per channel, got a PIL image of floats")
        if upright.mode == "I":
            # Nothing says what its white is, and to guess by the lightest pixel would turn a dark
            # picture of 16 bits into a light one.
            raise DatasetError(
                f"{where}: expected 8 or 16 bits of grey, got a PIL image of mode I, 32 bits; "
                "convert levels 0..255 by .convert('L'), levels 0..65535 by .convert('I;16')"
            )
        if upright.mode.startswith("I;16"):
            grey = np.asarray(upright).astype(np.uint32) >> 8  # as of files
            return _from_array(grey.astype(np.uint8), where, "rgb")
        is_see_through = upright.has_transparency_data
        pixels = np.asarray(upright.convert("RGBA" if is_see_through else "RGB"))
    except DatasetError:
        raise
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DatasetError(f"{where}: the PIL image cannot be read ({error})") from error
    return _from_array(pixels, where, "rgb")


def _from_array(array: NDArray[Any], where: str, channel_order: str) -> Pixels:
    if array.dtype != np.uint8:
        raise DatasetError(
            f"{where}: expected uint8 levels 0..255, got {array.dtype}; floats in 0..1 can be "
            "given as a tensor (C, H, W)"
        )
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or not array.size:
        raise DatasetError(f"{where}: expected shape (H, W, 3), got {array.shape}")
    channels = array.shape[2]
    if channels == 1:
        return np.repeat(array, 3, axis=2)
    if channels not in (3, 4):
        hint = "; is it (C, H, W)? move the channels to the end" if array.shape[0] in (1, 3) else ""
        raise DatasetError(f"{where}: expected shape (H, W, 3), got {array.shape}{hint}")
    colour = array[..., 2::-1] if channel_order == "bgr" else array[..., :3]
    if channels == 4:
        opacity = array[..., 3:].astype(np.uint32)
        mixed = (colour * opacity + _BACKGROUND * (255 - opacity) + 127) // 255
        colour = mixed.astype(np.uint8)
    return np.ascontiguousarray(colour)


def _whole_levels(tensor: Tensor, where: str) -> Pixels:
    # (C, H, W) becomes (H, W, C), floats in 0..1 become levels.
    tensor = tensor.detach().cpu()
    if tensor.ndim == 2:
        tensor = tensor[None]
    if tensor.ndim != 3 or tensor.shape[0] not in (1, 3, 4) or not tensor.numel():
        raise DatasetError(
            f"{where}: expected a tensor (C, H, W) of 1, 3 or 4 channels, got {tuple(tensor.shape)}"
        )
    if tensor.is_floating_point():
        low, high = float(tensor.min()), float(tensor.max())
        if not (low >= 0 and high <= 1):
            raise DatasetError(
                f"{where}: expected floats in 0..1, got {low:.3g} to {high:.3g}; give pixels as "
                "they are, the model normalises them itself"
            )
        tensor = (tensor.float() * 255 + 0.5).floor()
    elif tensor.dtype != torch.uint8:
        raise DatasetError(f"{where}: expected uint8 or floats in 0..1, got {tensor.dtype}")
    levels: Pixels = tensor.to(torch.uint8).permute(1, 2, 0).numpy()
    return levels
