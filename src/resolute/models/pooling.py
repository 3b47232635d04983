"""Generalised-mean pooling: between the average and the maximum of a map, learned.

Letters: N images, C channels, h, w size of the deep map.
"""

import torch
from torch import Tensor, nn

START_EXPONENT = 3.0  # [Radenovic 2019]
SMALLEST = 1e-6


class GeneralisedMean(nn.Module):
    """``(mean of x^p)^(1/p)`` per channel with one learned p [Radenovic 2019].

    p = 1 is the average; the larger p, the nearer to the maximum. Values below 1e-6 count as that,
    because a power needs positive ones.

    Attributes:
        exponent: p, a scalar, started at 3.
    """

    def __init__(self) -> None:
        super().__init__()
        self.exponent = nn.Parameter(torch.tensor(START_EXPONENT))

    def forward(self, features: Tensor) -> Tensor:
        """Pool a map.

        Args:
            features: shape (N, C, h, w).

        Returns:
            Means of shape (N, C, 1, 1), float32 at least: powers lose too much in bf16.
        """
        powers = features.float().clamp(min=SMALLEST) ** self.exponent
        means: Tensor = powers.mean(dim=(2, 3), keepdim=True) ** (1 / self.exponent)
        return means
