"""Faults of real cameras beside lost resolution, for training alone: blur, noise, JPEG, kernels.

The test protocol knows none of this: it shrinks by one kernel and stores without loss. A network
that has met more than that may read far cameras better. [ours]
"""

import io
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from resolute.core.errors import ConfigError
from resolute.data.decode import decode_image
from resolute.data.degrade import degrade
from resolute.data.kernels import Kernel, KernelName


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultConfig:
    """Which faults degraded training images get, drawn per image and step; all off [ours].

    Attributes:
        share: share of the images that get any; the others are shrunk as in the protocol.
        kernels: kernels drawn evenly in place of `twin_kernel`: box, bilinear, hamming, bicubic,
            lanczos.
        blur: largest deviation of a Gaussian blur in pixels of the small image; drawn evenly from
            0 up.
        noise: largest deviation of Gaussian noise in grey levels; drawn evenly from 0 up.
        jpeg: lowest and highest quality of a JPEG copy of the small image, 1 to 95.
    """

    share: float = 1.0
    kernels: tuple[KernelName, ...] = ()
    blur: float = 0.0
    noise: float = 0.0
    jpeg: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise ConfigError(f"faults.share: expected 0 to 1, got {self.share}")
        if not (0 <= self.blur < math.inf and 0 <= self.noise < math.inf):
            raise ConfigError(
                f"faults.blur and noise: expected 0 or more, got {self.blur} and {self.noise}"
            )
        if self.jpeg and not (len(self.jpeg) == 2 and 1 <= self.jpeg[0] <= self.jpeg[1] <= 95):
            raise ConfigError(
                f"faults.jpeg: expected 1 <= lowest <= highest <= 95, got {self.jpeg}"
            )
        for name in self.kernels:
            Kernel(name=name)

    @property
    def is_on(self) -> bool:
        """Whether any image can get a fault."""
        return self.share > 0 and bool(self.kernels or self.blur or self.noise or self.jpeg)


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """What happens to one image.

    Attributes:
        kernel: how it is shrunk.
        blur: deviation of the blur in pixels of the small image; 0 for none.
        noise: deviation of the noise in grey levels; 0 for none.
        quality: of the JPEG copy; 0 for none.
    """

    kernel: Kernel
    blur: float = 0.0
    noise: float = 0.0
    quality: int = 0


def draw_faults(rng: np.random.Generator, config: FaultConfig, kernel: Kernel) -> Faults:
    """Draw the faults of one image.

    Args:
        rng: of this image and step; always asked for the same numbers, so that one setting moves
            no other fault.
        config: what may happen.
        kernel: of the protocol, where no kernels are mixed or the image stays without faults.

    Returns:
        What happens to it.
    """
    is_spared, place, blur, noise, quality = rng.random(5).tolist()
    if is_spared >= config.share:
        return Faults(kernel=kernel)
    if config.kernels:
        kernel = Kernel(name=config.kernels[int(place * len(config.kernels))])
    low, high = config.jpeg or (0, 0)
    return Faults(
        kernel=kernel,
        blur=blur * config.blur,
        noise=noise * config.noise,
        quality=low + int(quality * (high - low + 1)) if config.jpeg else 0,
    )


def spoil(
    pixels: NDArray[np.uint8], rate: float, faults: Faults, *, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Shrink an image, then blur it, add noise and store it as JPEG.

    Args:
        pixels: RGB, shape (h, w, 3), 0..255.
        rate: what height and width are divided by, at least 1.
        faults: what happens to it.
        rng: gives the noise.

    Returns:
        RGB, shape (h // rate, w // rate, 3), at least 1 x 1; without faults what
        :func:`resolute.data.degrade.degrade` returns.
    """
    small = degrade(pixels, rate, faults.kernel)
    if faults.blur or faults.noise:
        levels = small.astype(np.float32)
        if faults.blur:
            levels = np.einsum("Yy,yxc->Yxc", gaussian(small.shape[0], faults.blur), levels)
            levels = np.einsum("Xx,yxc->yXc", gaussian(small.shape[1], faults.blur), levels)
        if faults.noise:
            levels = levels + faults.noise * rng.standard_normal(small.shape, dtype=np.float32)
        small = np.floor(levels + 0.5).clip(0, 255).astype(np.uint8)
    if faults.quality:
        stored = io.BytesIO()
        Image.fromarray(small).save(stored, "JPEG", quality=faults.quality)
        small = decode_image(stored.getvalue(), name="JPEG copy of a training image")
    return small


def gaussian(size: int, deviation: float) -> NDArray[np.float32]:
    """Build the matrix that blurs one axis.

    Args:
        size: length of the axis in pixels.
        deviation: of the Gaussian in pixels, above 0.

    Returns:
        Weights, shape (size, size); rows add up to 1, so that a border does not darken.
    """
    steps = np.arange(size)
    weights = np.exp(-0.5 * ((steps[:, None] - steps[None, :]) / deviation) ** 2)
    rows: NDArray[np.float32] = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
    return rows
