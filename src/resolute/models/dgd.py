"""The identity network of SING: small inception blocks, each with batch norm [DGD].

Letters: N images, H, W network input, D = 256 embedding, I train identities.
"""

import torch
from torch import Tensor, nn

EMBEDDING_DIM = 256
STEM_CHANNELS = 32
# Width of every branch in the three pairs of blocks "a" and "b" [SING].
WIDTHS = (64, 128, 256)
DROPOUT = 0.5


class DGD(nn.Module):
    """Three 3x3 convolutions, six inception blocks, average, fully connected layer [DGD, SING].

    At the published 144 x 56 the maps are 72 x 28 after the pool, then 36 x 14, 18 x 7 and 9 x 4.
    Convolutions have no bias because batch norm follows each; stem and first pool keep or halve
    the size by padding [assumed].

    Attributes:
        embedding_dim: D.
    """

    def __init__(self) -> None:
        """Build with random weights drawn from torch's default generator."""
        super().__init__()
        self.embedding_dim = EMBEDDING_DIM
        self.stem = nn.Sequential(
            _conv(3, STEM_CHANNELS, 3),
            _conv(STEM_CHANNELS, STEM_CHANNELS, 3),
            _conv(STEM_CHANNELS, STEM_CHANNELS, 3),
            nn.MaxPool2d(3, stride=2, padding=1),
        )
        blocks: list[nn.Module] = []
        channels = STEM_CHANNELS
        for width in WIDTHS:
            blocks += [Inception(channels, width), ShrinkingInception(4 * width, width)]
            channels = 6 * width  # 4 width pass the pool of the second block
        self.blocks = nn.Sequential(*blocks)
        self.fc7 = nn.Sequential(
            nn.Linear(channels, EMBEDDING_DIM, bias=False), nn.BatchNorm1d(EMBEDDING_DIM)
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        """Embed images.

        Args:
            images: normalised RGB, shape (N, 3, H, W).

        Returns:
            fc7 after batch norm and before its ReLU, shape (N, D) [SING].
        """
        features = self.deep()(self.shallow()(images))  # (N, 1536, H/16, W/16)
        embeddings: Tensor = self.fc7(features.mean(dim=(2, 3)))
        return embeddings

    def shallow(self) -> nn.Sequential:
        """Return the stem: (N, 3, H, W) to (N, 32, H/2, W/2)."""
        return self.stem

    def deep(self) -> nn.Sequential:
        """Return the blocks: (N, 32, H/2, W/2) to the map (N, 1536, H/16, W/16)."""
        return self.blocks


class DGDHead(nn.Sequential):
    """What follows the embedding in training: ReLU, dropout 0.5, fc8 [DGD, SING]."""

    def __init__(self, num_identities: int) -> None:
        super().__init__(nn.ReLU(), nn.Dropout(DROPOUT), nn.Linear(EMBEDDING_DIM, num_identities))


class Inception(nn.Module):
    """Block "a": 1x1; 1x1, 3x3; 1x1, 3x3, 3x3; average, 1x1: four branches of one width [DGD]."""

    def __init__(self, in_channels: int, width: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            (
                _conv(in_channels, width, 1),
                nn.Sequential(_conv(in_channels, width, 1), _conv(width, width, 3)),
                nn.Sequential(
                    _conv(in_channels, width, 1), _conv(width, width, 3), _conv(width, width, 3)
                ),
                nn.Sequential(nn.AvgPool2d(3, stride=1, padding=1), _conv(in_channels, width, 1)),
            )
        )

    def forward(self, features: Tensor) -> Tensor:
        """Transform a map.

        Args:
            features: shape (N, C, h, w).

        Returns:
            Map of shape (N, 4 width, h, w).
        """
        return torch.cat([branch(features) for branch in self.branches], dim=1)


class ShrinkingInception(nn.Module):
    """Block "b": 1x1, 3x3; 1x1, 3x3, 3x3, both with stride 2; a max-pool of the input [DGD]."""

    def __init__(self, in_channels: int, width: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            (
                nn.Sequential(_conv(in_channels, width, 1), _conv(width, width, 3, stride=2)),
                nn.Sequential(
                    _conv(in_channels, width, 1),
                    _conv(width, width, 3),
                    _conv(width, width, 3, stride=2),
                ),
                nn.MaxPool2d(3, stride=2, padding=1),
            )
        )

    def forward(self, features: Tensor) -> Tensor:
        """Transform a map.

        Args:
            features: shape (N, C, h, w).

        Returns:
            Map of shape (N, 2 width + C, h / 2, w / 2), sides rounded up.
        """
        return torch.cat([branch(features) for branch in self.branches], dim=1)


def _conv(in_channels: int, out_channels: int, kernel: int, *, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(
            in_channels, out_channels, kernel, stride=stride, padding=kernel // 2, bias=False
        ),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )
