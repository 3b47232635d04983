"""Augmentation: drawn per image in numpy, applied to the whole batch on its device.

Order and amounts are the strong baseline's [strong baseline]: flip, black border and crop on grey
levels, then normalisation, then a rectangle erased to the mean. Letters: N images, H, W input.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from resolute.core.images import Images
from resolute.core.types import InputSpec
from resolute.data.config import LoaderConfig
from resolute.data.degrade import normalise, resize
from resolute.data.kernels import Kernel

if TYPE_CHECKING:
    from torch import Tensor

_ATTEMPTS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Augmentation:
    """How N images of the input size are changed.

    Attributes:
        rows: line of the image that each output line shows, -1 for the border, shape (N, H).
        columns: the same for columns, mirrored where the image is flipped, shape (N, W).
        boxes: erased rectangle (top, left, height, width) in pixels, height 0 for none, (N, 4).
    """

    rows: NDArray[np.int64]
    columns: NDArray[np.int64]
    boxes: NDArray[np.int64]


def draw(
    rngs: list[np.random.Generator], height: int, width: int, config: LoaderConfig
) -> Augmentation:
    """Draw one augmentation per image, each from a generator of its own.

    Args:
        rngs: N generators.
        height: input height H in pixels.
        width: input width W in pixels.
        config: probabilities and amounts.

    Returns:
        Parameters for N images.
    """
    rows = np.empty((len(rngs), height), dtype=np.int64)
    columns = np.empty((len(rngs), width), dtype=np.int64)
    boxes = np.zeros((len(rngs), 4), dtype=np.int64)
    for i, rng in enumerate(rngs):
        # Always the same draws in the same order: a changed probability moves nothing else.
        is_flipped, is_erased = rng.random(2) < (config.flip, config.erasing)
        top, left = rng.integers(2 * config.pad + 1, size=2)
        box = _draw_box(rng, height, width, config)
        rows[i] = _crop(height, top, config.pad)
        columns[i] = _crop(width, left, config.pad)
        if is_flipped:
            columns[i] = np.where(columns[i] < 0, -1, width - 1 - columns[i])
        if is_erased:
            boxes[i] = box
    return Augmentation(rows=rows, columns=columns, boxes=boxes)


def render(
    images: Images,
    spec: InputSpec,
    augmentation: Augmentation,
    *,
    rates: "Tensor | None",
    kernel: Kernel,
) -> "Tensor":
    """Turn native pixels into augmented network input.

    A twin is the same call with rates: it shares flip, crop and erasing with its HR image, or
    eq. 2 would compare different content [FTWA eq. 2].

    Args:
        images: N native-size images.
        spec: input size, interpolation and normalisation.
        augmentation: parameters for the N images.
        rates: what each native size is divided by first, shape (N,); None leaves it.
        kernel: how the pixels are shrunk by ``rates``.

    Returns:
        Normalised images, float32, shape (N, 3, H, W).
    """
    import torch

    window = (torch.from_numpy(augmentation.rows), torch.from_numpy(augmentation.columns))
    levels = resize(
        images,
        spec.height,
        spec.width,
        rates=rates,
        kernel=kernel,
        interpolation=spec.interpolation,
        window=window,
    )
    out = normalise(levels, spec)
    for image, (top, left, height, width) in zip(out, augmentation.boxes.tolist(), strict=True):
        image[:, top : top + height, left : left + width] = 0  # the mean
    return out


def _crop(size: int, start: int, pad: int) -> NDArray[np.int64]:
    """List the lines that a crop of the padded image shows."""
    lines = np.arange(size) + start - pad
    return np.where((lines >= 0) & (lines < size), lines, -1)


def _draw_box(
    rng: np.random.Generator, height: int, width: int, config: LoaderConfig
) -> tuple[int, int, int, int]:
    """Draw a rectangle by area and aspect; none if ten attempts do not fit [Zhong 2020]."""
    for area, aspect, y, x in rng.random((_ATTEMPTS, 4)):
        low, high = config.erasing_area
        pixels = (low + area * (high - low)) * height * width
        low, high = config.erasing_aspect
        ratio = low + aspect * (high - low)
        tall, wide = round(math.sqrt(pixels * ratio)), round(math.sqrt(pixels / ratio))
        if 0 < tall < height and 0 < wide < width:
            return int(y * (height - tall + 1)), int(x * (width - wide + 1)), tall, wide
    return 0, 0, 0, 0
