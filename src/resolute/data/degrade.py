"""The one place where resolution is lost: degraded sources, batched resampling.

Letters: N images, U distinct sizes, h, w native canvas, H, W target.

A low-resolution version is always made from native pixels: (h, w) becomes
(h // r, w // r), then the network's input size [SING]. An image that was first enlarged to the
input size is never shrunk: a twin at r = 4 would then look like a query at r = 2 [ours].
Torch is imported inside the batched functions, so that building data sets needs none.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import Image

from resolute.core.errors import ConfigError, ShapeError
from resolute.core.types import InputSpec, Source
from resolute.data.kernels import BICUBIC, Kernel, matrix

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from resolute.core.images import Images

Size = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Degraded:
    """A source whose pixels are shrunk by a rate.

    Attributes:
        source: where the untouched pixels come from.
        rate: what height and width are divided by, at least 1; 1 leaves the image untouched.
        kernel: how the pixels are resampled.
    """

    source: Source
    rate: float
    kernel: Kernel

    def __post_init__(self) -> None:
        check_rate(self.rate)

    def pixels(self) -> NDArray[np.uint8]:
        """Decode and shrink: shape (h // rate, w // rate, 3), at least 1 x 1, 0..255."""
        return degrade(self.source.pixels(), self.rate, self.kernel)

    def token(self) -> str:
        """Return the source's token with everything that shaped these pixels."""
        made = f"{self.kernel.library} {self.kernel.name} pillow {PIL.__version__}"
        return f"{self.source.token()}|rate {float(self.rate)!r} {made}"


def check_rate(rate: float) -> None:
    """Check that a rate shrinks or keeps an image.

    Args:
        rate: what height and width are to be divided by.

    Raises:
        ConfigError: if the rate is below 1 or not finite.
    """
    if not (math.isfinite(rate) and rate >= 1):
        raise ConfigError(f"rate: expected a finite number of at least 1, got {rate}")


def degraded_size(height: int, width: int, rate: float) -> Size:
    """Divide a size by a rate, rounding down [VPFA; SING's rounding is unknown].

    Args:
        height: native height in pixels.
        width: native width in pixels.
        rate: what both are divided by, at least 1.

    Returns:
        (height, width) in pixels, at least 1 x 1.

    Examples:
        >>> degraded_size(128, 48, 3), degraded_size(5, 3, 8)
        ((42, 16), (1, 1))
    """
    return max(1, math.floor(height / rate)), max(1, math.floor(width / rate))


def degrade(pixels: NDArray[np.uint8], rate: float, kernel: Kernel) -> NDArray[np.uint8]:
    """Shrink one image by a rate.

    Args:
        pixels: RGB, shape (h, w, 3), 0..255.
        rate: what height and width are divided by, at least 1.
        kernel: how the pixels are resampled.

    Returns:
        RGB, shape (h // rate, w // rate, 3), at least 1 x 1; ``pixels`` itself if it has that size.
    """
    native_height, native_width = pixels.shape[:2]
    height, width = degraded_size(native_height, native_width, rate)
    if (height, width) == (native_height, native_width):
        return pixels
    if kernel.library == "pillow":
        method = Image.Resampling[kernel.name.upper()]
        # Two calls fix the order, columns first: from version 13 on Pillow chooses it by size.
        narrow = Image.fromarray(pixels).resize((width, native_height), method)
        return np.asarray(narrow.resize((width, height), method))
    across = np.einsum("yxc,Xx->yXc", pixels, matrix(native_width, width, kernel))
    down = np.einsum("yXc,Yy->YXc", _whole_levels(across), matrix(native_height, height, kernel))
    return _whole_levels(down).astype(np.uint8)


def canvas(arrays: Sequence[NDArray[np.uint8]]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Lay images of different sizes on one canvas, top left, zeros elsewhere.

    Args:
        arrays: N >= 1 images, RGB, shape (h_i, w_i, 3), 0..255.

    Returns:
        Pixels, shape (N, 3, h, w), h and w the largest; native (height, width), shape (N, 2).

    Raises:
        ShapeError: if there is no image or one is not RGB.
    """
    if not arrays:
        raise ShapeError("canvas: expected at least one image, got none")
    for i, array in enumerate(arrays):
        if array.ndim != 3 or array.shape[2] != 3:
            raise ShapeError(f"canvas: expected shape (height, width, 3), got {array.shape} at {i}")
    sizes = np.array([a.shape[:2] for a in arrays], dtype=np.int64)
    pixels = np.zeros((len(arrays), 3, *sizes.max(axis=0)), dtype=np.uint8)
    for row, array in zip(pixels, arrays, strict=True):
        row[:, : array.shape[0], : array.shape[1]] = array.transpose(2, 0, 1)
    return pixels, sizes


def collate(arrays: Sequence[NDArray[np.uint8]]) -> "tuple[Tensor, Tensor]":
    """Lay images on one canvas, as tensors; see :func:`canvas`.

    Args:
        arrays: N >= 1 images, RGB, shape (h_i, w_i, 3), 0..255.

    Returns:
        Pixels, uint8, shape (N, 3, h, w); native sizes, int64, shape (N, 2).
    """
    import torch

    pixels, sizes = canvas(arrays)
    return torch.from_numpy(pixels), torch.from_numpy(sizes)


def to_input(
    images: "Images",
    spec: InputSpec,
    *,
    rates: "Tensor | None" = None,
    kernel: Kernel = BICUBIC,
) -> "Tensor":
    """Turn native pixels into network input, on the way through a lower resolution if asked.

    Args:
        images: N native-size images.
        spec: input size, interpolation and normalisation.
        rates: what each native size is divided by first, at least 1, shape (N,); none by default.
        kernel: how the pixels are shrunk by ``rates``.

    Returns:
        Normalised images, float32, shape (N, 3, H, W), on the device of the pixels.
    """
    levels = resize(
        images,
        spec.height,
        spec.width,
        rates=rates,
        kernel=kernel,
        interpolation=spec.interpolation,
    )
    return normalise(levels, spec)


def resize(
    images: "Images",
    height: int,
    width: int,
    *,
    rates: "Tensor | None" = None,
    kernel: Kernel = BICUBIC,
    interpolation: str = "bilinear",
    window: "tuple[Tensor, Tensor] | None" = None,
) -> "Tensor":
    """Resample native images to one size, on the way through a lower resolution if asked.

    Each axis of each image is one small matrix, so any rate and kernel costs the same. Levels are
    rounded after each axis, columns first, as Pillow does: bilinear input is within 1 grey level
    of Pillow's, or 2 where Pillow >= 13 takes rows first; bicubic and lanczos input within 3.

    Args:
        images: N native-size images.
        height: wanted height in pixels.
        width: wanted width in pixels.
        rates: what each native size is divided by first, at least 1, shape (N,); none by default.
        kernel: how the pixels are shrunk by ``rates``.
        interpolation: Pillow's name of the kernel that reaches the wanted size.
        window: which line of the resized image each output line shows, -1 for black: rows, shape
            (N, height), and columns, shape (N, width). Picking lines of the matrices makes flip
            and crop free.

    Returns:
        Whole grey levels 0..255 as float32, shape (N, 3, height, width), on the device of the
        pixels, seen through a channels-in-the-middle layout.

    Raises:
        ConfigError: if a rate is below 1 or the interpolation is unknown.
        ShapeError: if there is not one rate per image.
    """
    import torch

    last = Kernel(name=interpolation)  # type: ignore[arg-type]  # checked there
    sizes = [(h, w) for h, w in images.native_sizes.tolist()]
    small = sizes
    if rates is not None:
        if tuple(rates.shape) != (len(images),):
            raise ShapeError(f"rates: expected shape ({len(images)},), got {tuple(rates.shape)}")
        for rate in set(divisors := rates.tolist()):
            check_rate(rate)
        small = [degraded_size(h, w, r) for (h, w), r in zip(sizes, divisors, strict=True)]
    # Autocast would do the products in bfloat16, which has too few bits for 256 levels.
    with torch.autocast(images.pixels.device.type, enabled=False):
        levels = images.pixels.permute(0, 2, 1, 3).to(torch.float32).contiguous()  # (N, h, 3, w)
        if small != sizes:
            levels = _resample(levels, sizes, small, kernel)
        levels = _resample(levels, small, [(height, width)] * len(images), last, window)
    return levels.permute(0, 2, 1, 3)  # (N, 3, H, W)


def normalise(levels: "Tensor", spec: InputSpec) -> "Tensor":
    """Scale grey levels to 0..1, subtract the mean and divide by the deviation.

    Args:
        levels: 0..255, float32, shape (N, 3, H, W).
        spec: mean and deviation per channel.

    Returns:
        Normalised images, contiguous, same shape.
    """
    import torch

    std = torch.tensor(spec.std, device=levels.device).view(3, 1, 1)
    mean = torch.tensor(spec.mean, device=levels.device).view(3, 1, 1)
    out = torch.empty(levels.shape, device=levels.device)
    return torch.mul(levels, 1 / (255 * std), out=out).sub_(mean / std)


def _resample(
    levels: "Tensor",
    sizes: Sequence[Size],
    targets: Sequence[Size],
    kernel: Kernel,
    window: "tuple[Tensor, Tensor] | None" = None,
) -> "Tensor":
    """Resample (N, h, 3, w) to (N, H, 3, W): columns first, then rows, as Pillow does."""
    n, h, channels, w = levels.shape
    rows, columns = window or (None, None)
    widths = [(s[1], t[1]) for s, t in zip(sizes, targets, strict=True)]
    heights = [(s[0], t[0]) for s, t in zip(sizes, targets, strict=True)]
    if columns is not None or _changes(widths, w):
        right = _select(*_matrices(widths, w, kernel), columns, levels.device)  # (N, W, w)
        levels = levels.reshape(n, h * channels, w) @ right.mT  # (N, h 3, W)
        levels = _round(levels, kernel)
    if rows is not None or _changes(heights, h):
        left = _select(*_matrices(heights, h, kernel), rows, levels.device)  # (N, H, h)
        levels = _round(left @ levels.reshape(n, h, -1), kernel)  # (N, H, 3 W)
        h = levels.shape[1]
    return levels.view(n, h, channels, -1)


def _changes(pairs: Sequence[Size], length: int) -> bool:
    # A matrix from a length to itself is the identity: crops that fit already cost nothing. On a
    # larger canvas they still have to be cut out.
    return any(size != target or target != length for size, target in pairs)


def _matrices(
    pairs: Sequence[Size], length: int, kernel: Kernel
) -> tuple[NDArray[np.float32], list[int]]:
    """Stack the distinct matrices, padded to one size with a last row of zeros, and say whose."""
    distinct = {pair: i for i, pair in enumerate(sorted(set(pairs)))}
    tallest = max(target for _, target in distinct)
    stack = np.zeros(
        (len(distinct), tallest + 1, length), dtype=np.float32
    )  # (U, target + 1, size)
    for (size, target), i in distinct.items():
        stack[i, :target, :size] = matrix(size, target, kernel)
    return stack, [distinct[pair] for pair in pairs]


def _select(
    stack: NDArray[np.float32], owners: list[int], lines: "Tensor | None", device: "torch.device"
) -> "Tensor":
    """Give each image its matrix, shape (N, target, size), with the lines that its window shows."""
    import torch

    matrices = torch.from_numpy(stack).to(device)
    index = torch.tensor(owners, device=device)
    if lines is None:
        return matrices[:, :-1][index]
    return matrices[index[:, None], lines.to(device)]  # -1 picks the row of zeros


def _round(levels: "Tensor", kernel: Kernel) -> "Tensor":
    """Round a fresh tensor half up to whole levels, in place; only some kernels overshoot."""
    levels.add_(0.5).floor_()
    return levels.clamp_(0, 255) if kernel.name in ("bicubic", "lanczos") else levels


def _whole_levels(levels: NDArray[np.floating]) -> NDArray[np.floating]:
    whole: NDArray[np.floating] = np.floor(levels + 0.5).clip(0, 255)
    return whole
