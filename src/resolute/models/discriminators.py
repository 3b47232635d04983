"""Networks that tell two kinds of images, or of feature maps, apart.

Letters: N images, C channels, H, W size of what is judged, h, w size of the map of scores.
"""

from collections import OrderedDict
from itertools import pairwise
from typing import Literal

from torch import Tensor, nn

from resolute.core.errors import ConfigError

SLOPE = 0.2
NUM_BLOCKS = 5  # the one that gives the scores included [CAD-Net, assumed]
WIDEST = 8  # blocks double their width up to this many times the first one's


class Discriminator(nn.Module):
    """Convolutions of stride 2 with leaky ReLU; the last one gives the scores.

    No normalisation: the score of an image depends on no other image of the batch, so that real and
    fake ones may be judged apart or together [ours]. A map one wide keeps its size: halving it
    would add nothing, and torch 2.15's gradient of it on a CPU is wrong in bf16 (seen).

    Attributes:
        blocks: the convolutions.
    """

    def __init__(
        self, shape: tuple[int, int, int], *, width: int = 64, kernel: Literal[3, 4] = 3
    ) -> None:
        """Build with random weights drawn from torch's default generator.

        Args:
            shape: (C, H, W) of what is judged.
            width: channels of the first block; each next one has twice as many, up to 8 times.
            kernel: 3 takes maps of any size; 4 is for images, at least 16 x 16.

        Raises:
            ConfigError: if the width is out of range.
        """
        super().__init__()
        if width < 1:
            raise ConfigError(f"discriminator: expected a width of at least 1, got {width}")
        channels, *sides = shape
        widths = [width * min(2**i, WIDEST) for i in range(NUM_BLOCKS - 1)]
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        for i, (before, after) in enumerate(pairwise([channels, *widths])):
            stride = 2 if min(sides) > 1 else 1
            layers[f"conv{i}"] = nn.Conv2d(before, after, kernel, stride=stride, padding=1)
            layers[f"relu{i}"] = nn.LeakyReLU(SLOPE)
            sides = [(side + 2 - kernel) // stride + 1 for side in sides]
        layers["score"] = nn.Conv2d(widths[-1], 1, 3, padding=1)
        self.blocks = nn.Sequential(layers)
        for layer in self.blocks:
            if isinstance(layer, nn.Conv2d):  # without norms nothing else keeps the scale
                nn.init.kaiming_normal_(layer.weight, a=SLOPE)

    def forward(self, images: Tensor) -> Tensor:
        """Judge images or feature maps.

        Args:
            images: shape (N, C, H, W).

        Returns:
            Scores before the sigmoid, one per patch, high for real, shape (N, 1, h, w).
        """
        scores: Tensor = self.blocks(images)
        return scores
