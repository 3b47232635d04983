"""The two tensors-with-context that travel between loader, methods and engine.

Letters: N images, C = 3 channels, H, W network input, h, w native canvas, P training images.
"""

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from resolute.core.shapes import check_shape

RESOLUTION_HR, RESOLUTION_LR, RESOLUTION_UNKNOWN = 0, 1, 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Images:
    """Native-size images of one batch, on one canvas.

    Pixels stay native until the method resizes them, because a low-resolution version must be
    made from the native pixels, never from an enlarged copy [ours].

    Attributes:
        pixels: uint8 RGB, shape (N, 3, h, w); each image at the top left, zeros elsewhere.
        native_sizes: (height, width) of each image in pixels, shape (N, 2), int64.
        resolution: 0 = HR, 1 = LR, 2 = unknown, shape (N,), int64.
    """

    pixels: Tensor
    native_sizes: Tensor
    resolution: Tensor

    def __post_init__(self) -> None:
        check_shape("N 3 h w", pixels=self.pixels)
        check_shape(f"{len(self.pixels)} 2", native_sizes=self.native_sizes)
        check_shape(f"{len(self.pixels)}", resolution=self.resolution)

    def __len__(self) -> int:
        return len(self.pixels)

    def take(self, index: Tensor) -> "Images":
        """Return the images at the given positions.

        Args:
            index: positions, shape (M,), int64.
        """
        return Images(**{f.name: getattr(self, f.name)[index] for f in fields(self)})

    def to(self, device: torch.device | str) -> "Images":
        """Return the images on another device.

        Args:
            device: where to.
        """
        return Images(**{f.name: getattr(self, f.name).to(device) for f in fields(self)})


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """One training batch: P HR images, their LR twins, and as many LR images, normalised.

    Row i of ``images_hr`` and of ``images_lr_syn`` are one picture: same flip, crop and
    erasing. Row i of ``images_lr`` is another picture of the same identity, ``labels[i]``.

    Attributes:
        images_hr: I_HR, float32, shape (P, 3, H, W).
        images_lr: I_LR, float32, shape (P, 3, H, W).
        images_lr_syn: I'_LR, twins of ``images_hr``, float32, shape (P, 3, H, W).
        labels: training index of each identity; row i of HR and row i of LR share it, shape (P,).
        rates_lr: rate of each LR image, shape (P,), float32.
        rates_syn: rate of each twin, shape (P,), float32.
        heights_hr: native height of each HR image in pixels, shape (P,), int64.
        heights_lr: native height of each LR image in pixels, shape (P,), int64.
        heights_lr_syn: height of each twin in pixels after its rate, shape (P,), int64.
        sources_hr: index of each HR image's source picture, shape (P,), int64.
        sources_lr: index of each LR image's source picture, shape (P,), int64. Equal entries mean
            one picture, which is neither positive nor negative of itself.
    """

    images_hr: Tensor
    images_lr: Tensor
    images_lr_syn: Tensor
    labels: Tensor
    rates_lr: Tensor
    rates_syn: Tensor
    heights_hr: Tensor
    heights_lr: Tensor
    heights_lr_syn: Tensor
    sources_hr: Tensor
    sources_lr: Tensor

    def __len__(self) -> int:
        return 2 * len(self.labels)

    def to(self, device: torch.device | str) -> "Batch":
        """Return the batch on another device.

        Args:
            device: where to.
        """
        return Batch(**{f.name: getattr(self, f.name).to(device) for f in fields(self)})
