"""FFSR: restores an image at its own size, through a quarter of it [Mao 2019].

Letters: N images, H, W input size, w width.
"""

import torch
from torch import Tensor, nn

from resolute.core.errors import ConfigError

STRIDE = 4  # height and width of the input are multiples of this


class FFSR(nn.Module):
    """A small U-net without normalisation; what it makes is added to its input [Mao 2019].

    The layers between two convolutions that have no ReLU in the published code have none here.

    Attributes:
        width: channels of the first layer, 64 in the publication.
    """

    def __init__(self, width: int = 64, *, zero_tail: bool = False) -> None:
        """Build with random weights drawn from torch's default generator.

        Args:
            width: channels of the first layer; the others have this, twice and four times as many.
            zero_tail: start the last convolution at zero, so that the image passes unchanged.

        Raises:
            ConfigError: if the width is below 1.
        """
        super().__init__()
        if width < 1:
            raise ConfigError(f"ffsr width: expected at least 1, got {width}")
        self.width = width
        self.entry = nn.Sequential(
            nn.Conv2d(3, width, 2, stride=2), nn.Conv2d(width, width, 5, padding=2), nn.ReLU()
        )
        self.bottom = nn.Sequential(
            nn.Conv2d(width, 2 * width, 2, stride=2),
            nn.Conv2d(2 * width, 4 * width, 3, padding=1),
            nn.ReLU(),
            Bottleneck(4 * width, width),
            Bottleneck(4 * width, width),
            nn.ConvTranspose2d(4 * width, 4 * width, 2, stride=2),
            nn.ReLU(),
            nn.Conv2d(4 * width, width, 3, padding=1),
            nn.ReLU(),
        )
        self.exit = nn.Sequential(
            nn.ConvTranspose2d(2 * width, width, 2, stride=2),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.ReLU(),
        )
        self.tail = nn.Conv2d(width, 3, 3, padding=1)
        if zero_tail:
            nn.init.zeros_(self.tail.weight)
            nn.init.zeros_(self.tail.bias)  # type: ignore[arg-type]  # it has one

    def forward(self, images: Tensor) -> Tensor:
        """Restore images.

        Args:
            images: shape (N, 3, H, W), H and W multiples of 4.

        Returns:
            Restored images of the same shape.
        """
        skip = self.entry(images)  # (N, w, H / 2, W / 2)
        found = torch.cat([self.bottom(skip), skip], dim=1)  # (N, 2w, H / 2, W / 2)
        restored: Tensor = images + self.tail(self.exit(found))  # (N, 3, H, W)
        return restored


class Bottleneck(nn.Module):
    """Residual 1x1, 3x3, 1x1 convolutions; no ReLU after the sum [Mao 2019]."""

    def __init__(self, channels: int, inner: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, inner, 1),
            nn.ReLU(),
            nn.Conv2d(inner, inner, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(inner, channels, 1),
        )

    def forward(self, features: Tensor) -> Tensor:
        """Transform a map.

        Args:
            features: shape (N, C, h, w).

        Returns:
            Map of the same shape.
        """
        transformed: Tensor = features + self.body(features)
        return transformed
