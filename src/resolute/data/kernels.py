"""Resampling kernels, and the matrix by which one of them resamples one axis."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from resolute.core.config import unknown_name
from resolute.core.errors import ConfigError

KernelName = Literal["box", "bilinear", "hamming", "bicubic", "lanczos"]


def _box(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return ((x > -0.5) & (x <= 0.5)).astype(np.float64)


def _triangle(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return (1 - np.abs(x)).clip(min=0)


def _hamming(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(np.abs(x) < 1, np.sinc(x) * (0.54 + 0.46 * np.cos(np.pi * x)), 0.0)


def _cubic(x: NDArray[np.float64]) -> NDArray[np.float64]:
    x, a = np.abs(x), -0.5
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * a
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))


def _lanczos(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(np.abs(x) < 3, np.sinc(x) * np.sinc(x / 3), 0.0)


_SHAPES: dict[str, tuple[float, Callable[[NDArray[np.float64]], NDArray[np.float64]]]] = {
    "box": (0.5, _box),
    "bilinear": (1.0, _triangle),
    "hamming": (1.0, _hamming),
    "bicubic": (2.0, _cubic),
    "lanczos": (3.0, _lanczos),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """Whose resampling is reproduced; kernels of one name differ by 10 dB between libraries.

    Attributes:
        library: ``pillow`` (centres at half pixels, rounds to whole levels after each axis) or
            ``opencv`` (its INTER_LINEAR, within one grey level). [ours: what builders use]
        name: ``box``, ``bilinear``, ``hamming``, ``bicubic`` (a = -0.5) or ``lanczos`` (3 lobes);
            ``opencv`` has ``bilinear`` only. [assumed: bicubic, no paper names its kernel]
        antialias: whether the kernel widens when shrinking. Pillow always does, OpenCV never.
    """

    library: Literal["pillow", "opencv"] = "pillow"
    name: KernelName = "bicubic"
    antialias: bool = True

    def __post_init__(self) -> None:
        if self.name not in _SHAPES:
            raise ConfigError(unknown_name("kernel", self.name, list(_SHAPES)))
        if self.library == "pillow" and not self.antialias:
            raise ConfigError("kernel: pillow always filters when shrinking, set antialias = true")
        if self.library == "opencv" and (self.antialias or self.name != "bilinear"):
            raise ConfigError(
                "kernel: opencv offers name = 'bilinear' with antialias = false, "
                f"got {self.name!r} with antialias = {str(self.antialias).lower()}"
            )

    def __str__(self) -> str:
        return self.name if self.library == "pillow" else f"{self.library}-{self.name}"


BICUBIC = Kernel()

# The matrices of crops, up to 512 rows to 256, are kept: 256 MiB at most. Those of whole
# photographs are hundreds of megabytes each and hardly ever asked for twice [ours].
_KEPT_WEIGHTS = 512 * 256


def matrix(size: int, target: int, kernel: Kernel) -> NDArray[np.float32]:
    """Build the matrix that resamples one axis, or take it from memory where it is small.

    Args:
        size: length of the axis in pixels.
        target: wanted length in pixels.
        kernel: how to resample.

    Returns:
        Weights, shape (target, size), each row adds up to 1; read only.
    """
    make = _kept if size * target <= _KEPT_WEIGHTS else _matrix
    return make(size, target, kernel)


def _matrix(size: int, target: int, kernel: Kernel) -> NDArray[np.float32]:
    support, weigh = _SHAPES[kernel.name]
    scale = size / target
    stretch = max(scale, 1.0) if kernel.antialias else 1.0
    centres = (np.arange(target)[:, None] + 0.5) * scale
    # The window is cut at whole pixels exactly as Pillow cuts it: truncation towards zero.
    first = np.trunc(centres - support * stretch + 0.5).clip(min=0)
    end = np.trunc(centres + support * stretch + 0.5).clip(max=size)
    columns = np.arange(size)[None, :]
    weights = weigh((columns - centres + 0.5) / stretch)
    weights = np.where((columns >= first) & (columns < end), weights, 0.0)
    rows: NDArray[np.float32] = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
    rows.setflags(write=False)
    return rows


_kept = lru_cache(maxsize=512)(_matrix)
