"""A chain of generators that double an image each, and what judges their images [Ledig 2017].

Images are in -1..1 throughout.

Letters: N images, C channels, H, W height and width in pixels, w width of a network.
"""

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from resolute.core.errors import ConfigError

SLOPE = 0.2  # of every leaky ReLU [Ledig 2017]
START_STD = 0.02  # of every convolution's weights [Wang 2018]
WIDENINGS = (1, 2, 4, 8, 16, 32)  # of a discriminator's strided convolutions [Wang 2018]
_NARROWINGS = (16, 8)  # of its 1x1 convolutions
_INNER = 2  # of its residual block


class Generator(nn.Module):
    """Residual blocks at the small size, then pixel shuffle: twice the height and width.

    Convolutions that batch norm follows have no bias [Wang 2018].

    Attributes:
        is_residual: whether the enlarged image is added to what is made.
    """

    def __init__(self, *, width: int = 64, num_blocks: int = 16, residual: bool = False) -> None:
        """Build with random weights drawn from torch's default generator.

        Args:
            width: channels inside.
            num_blocks: residual blocks.
            residual: add the image, enlarged, to what is made, and start there: the last layer
                starts at zero [ours].

        Raises:
            ConfigError: if one of them is below 1.
        """
        super().__init__()
        if width < 1 or num_blocks < 1:
            raise ConfigError(
                f"generator: expected width and blocks of at least 1, got {width} and {num_blocks}"
            )
        self.is_residual = residual
        self.head = nn.Sequential(nn.Conv2d(3, width, 3, padding=1), nn.ReLU())
        self.blocks = nn.Sequential(*(_ResidualBlock(width) for _ in range(num_blocks)))
        self.tail = _conv_bn(width, width, kernel=3)
        self.up = nn.Sequential(
            nn.Conv2d(width, 4 * width, 3, padding=1),
            nn.PixelShuffle(2),
            nn.ReLU(),
        )
        self.last = nn.Conv2d(width, 3, 1)
        self.apply(_initialise)
        if residual:
            nn.init.zeros_(self.last.weight)

    def forward(self, images: Tensor) -> Tensor:
        """Double images.

        Args:
            images: shape (N, 3, H, W).

        Returns:
            Images in -1..1, a little beyond where the enlarged image is added, shape
            (N, 3, 2 H, 2 W).
        """
        start = self.head(images)  # (N, w, H, W)
        found = self.up(start + self.tail(self.blocks(start)))  # (N, w, 2 H, 2 W)
        made = torch.tanh(self.last(found))  # (N, 3, 2 H, 2 W)
        if not self.is_residual:
            return made
        enlarged = functional.interpolate(
            images, scale_factor=2, mode="bicubic", align_corners=False
        )
        return enlarged.clamp(-1, 1) + made


class Chain(nn.Module):
    """Generators one after the other; an image enters at the one that takes its size.

    Attributes:
        generators: that of the smallest images first.
        sizes: (height, width) that each generator takes, then that of what the last one makes.
    """

    def __init__(self, generators: Sequence[Generator], *, size: tuple[int, int]) -> None:
        """Join generators.

        Args:
            generators: of the smallest images first.
            size: (height, width) of what the last one makes, in pixels.

        Raises:
            ConfigError: if the size cannot be halved as often as there are generators.
        """
        super().__init__()
        count = len(generators)
        height, width = size
        if height < 1 or width < 1 or height % 2**count or width % 2**count:
            raise ConfigError(
                f"chain: expected a size in multiples of {2**count}, got {height}x{width} "
                "(height x width)"
            )
        self.generators = nn.ModuleList(generators)
        self.sizes = [(height // 2**i, width // 2**i) for i in range(count, -1, -1)]

    def forward(self, entering: Sequence[Tensor]) -> list[Tensor]:
        """Send images through, each from the generator where it enters.

        Args:
            entering: one tensor per generator, shape (N_i, 3, H_i, W_i); N_i may be 0.

        Returns:
            What each generator makes, shape (N_0 + ... + N_i, 3, 2 H_i, 2 W_i): first the images
            that entered first.
        """
        made: list[Tensor] = []
        for generator, images in zip(self.generators, entering, strict=True):
            joined = torch.cat([made[-1], images]) if made else images
            # Batch norm takes no empty batch.
            made.append(generator(joined) if len(joined) else _doubled_nothing(joined))
        return made


class SRDiscriminator(nn.Module):
    """Tells images of one size that are real from those that a generator made [Wang 2018].

    Six strided 4x4 convolutions, two of 1x1, a residual block, one dense layer. Leaky ReLU follows
    every batch norm but those before a sum, and the sum [assumed].
    """

    def __init__(self, size: tuple[int, int], *, width: int = 64) -> None:
        """Build with random weights drawn from torch's default generator.

        Args:
            size: (height, width) of the images in pixels.
            width: channels of the first layer; the others are multiples.
        """
        super().__init__()
        channels = [width * factor for factor in WIDENINGS]
        strided = [_Strided(3, width, has_norm=False)]
        strided += [_Strided(a, b) for a, b in itertools.pairwise(channels)]
        self.strided = nn.Sequential(*strided)
        first, last = (width * factor for factor in _NARROWINGS)
        self.narrow = nn.Sequential(
            _conv_bn(channels[-1], first), nn.LeakyReLU(SLOPE), _conv_bn(first, last)
        )
        inner = _INNER * width
        self.block = nn.Sequential(
            _conv_bn(last, inner),
            nn.LeakyReLU(SLOPE),
            _conv_bn(inner, inner, kernel=3),
            nn.LeakyReLU(SLOPE),
            _conv_bn(inner, last, kernel=3),
        )
        for _ in WIDENINGS:
            size = -(-size[0] // 2), -(-size[1] // 2)
        self.score = nn.Linear(last * size[0] * size[1], 1)
        self.apply(_initialise)

    def forward(self, images: Tensor) -> Tensor:
        """Judge images.

        Args:
            images: shape (N, 3, H, W), of the size it was built for.

        Returns:
            Scores before the sigmoid, high for real, shape (N,).
        """
        found = self.narrow(self.strided(images))  # (N, 8w, h, w)
        found = functional.leaky_relu(found + self.block(found), SLOPE)
        scores: Tensor = self.score(found.flatten(start_dim=1)).squeeze(1)
        return scores


class _Strided(nn.Module):
    """A 4x4 convolution of stride 2 whose output is half of any size, rounded up."""

    def __init__(self, in_channels: int, out_channels: int, *, has_norm: bool = True) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 4, stride=2, bias=not has_norm)
        self.bn = nn.BatchNorm2d(out_channels) if has_norm else nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        """Halve a map (N, C, H, W)."""
        height, width = images.shape[2:]
        # What is missing around the last window, the odd pixel at the end.
        down, across = (2 + size % 2 for size in (height, width))
        padded = functional.pad(
            images, (across // 2, across - across // 2, down // 2, down - down // 2)
        )
        return functional.leaky_relu(self.bn(self.conv(padded)), SLOPE)


class _ResidualBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            _conv_bn(width, width, kernel=3), nn.ReLU(), _conv_bn(width, width, kernel=3)
        )

    def forward(self, features: Tensor) -> Tensor:
        """Transform a map (N, w, H, W)."""
        transformed: Tensor = features + self.body(features)
        return transformed


def _conv_bn(in_channels: int, out_channels: int, *, kernel: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(out_channels),
    )


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.normal_(module.weight, std=START_STD)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def _doubled_nothing(images: Tensor) -> Tensor:
    _, channels, height, width = images.shape
    return images.new_empty(0, channels, 2 * height, 2 * width)
