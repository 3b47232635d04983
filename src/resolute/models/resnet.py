"""ResNet [He 2016] cut where FTWA cuts it, built from torchvision's modules.

Letters: N images, C channels, H, W input size, D embedding.
"""

from collections import OrderedDict
from typing import Literal

import torchvision
from torch import Tensor, nn

from resolute.core.errors import ConfigError

Depth = Literal[18, 34, 50, 101]


class ResNet(nn.Module):
    """A torchvision ResNet without its classifier; parameter names are torchvision's.

    Attributes:
        depth: 18, 34, 50 or 101 layers.
        feature_channels: C of the deep map F.
        embedding_dim: D of the embedding v, equal to C.
        uses_neck: True, a batch norm per space stands between v and the classifier
            [strong baseline].
        input_size: None, average pooling takes any size.
        stem_relu: as given.
        stem_pool_padding: as given.
    """

    def __init__(
        self,
        depth: Depth,
        *,
        last_stride: int = 1,
        stem_relu: bool = True,
        stem_pool_padding: int = 1,
    ) -> None:
        """Build with random weights drawn from torch's default generator.

        Args:
            depth: number of layers.
            last_stride: stride of the last stage; 1 keeps a map of H/16 x W/16 [FTWA 3.2].
            stem_relu: ReLU after the stem's batch norm as in torchvision; False leaves it out
                [strong baseline].
            stem_pool_padding: padding of the stem's max-pool; 1 as in torchvision, 0 (with
                sizes rounded up) as FastReID's weights were trained.

        Raises:
            ConfigError: if a setting is out of range.
        """
        super().__init__()
        if last_stride not in (1, 2):
            raise ConfigError(f"last_stride: expected 1 or 2, got {last_stride}")
        if stem_pool_padding not in (0, 1):
            raise ConfigError(f"stem_pool_padding: expected 0 or 1, got {stem_pool_padding}")
        network = torchvision.models.get_model(f"resnet{depth}", weights=None)
        self.depth = depth
        self.feature_channels: int = network.fc.in_features
        self.embedding_dim = self.feature_channels
        self.uses_neck = True
        self.stem_relu, self.stem_pool_padding = stem_relu, stem_pool_padding
        self.input_size: tuple[int, int] | None = None
        self.conv1: nn.Module = network.conv1
        self.bn1: nn.Module = network.bn1
        self.relu = nn.ReLU(inplace=True) if stem_relu else nn.Identity()
        self.maxpool = nn.MaxPool2d(
            3, stride=2, padding=stem_pool_padding, ceil_mode=stem_pool_padding == 0
        )
        self.layer1: nn.Module = network.layer1
        self.layer2: nn.Module = network.layer2
        self.layer3: nn.Module = network.layer3
        self.layer4: nn.Module = network.layer4
        self.avgpool: nn.Module = nn.AdaptiveAvgPool2d(1)
        _set_stride(network.layer4[0], last_stride)

    def shallow(self) -> nn.Sequential:
        """Return stem and first stage [FTWA 2.1]: (N, 3, H, W) to (N, C1, H/4, W/4)."""
        return self._part("conv1", "bn1", "relu", "maxpool", "layer1")

    def deep(self) -> nn.Sequential:
        """Return the last three stages [FTWA 2.1]: (N, C1, H/4, W/4) to F (N, C, H/16, W/16)."""
        return self._part("layer2", "layer3", "layer4")

    def stages(self) -> list[nn.Sequential]:
        """Return stem and the four stages, one after the other: together shallow and deep."""
        stem = self._part("conv1", "bn1", "relu", "maxpool")
        return [stem, *(self._part(f"layer{number}") for number in range(1, 5))]

    def pooling(self) -> nn.Sequential:
        """Return global average pooling [FTWA 2.3]: (N, C, h, w) to (N, C)."""
        return nn.Sequential(OrderedDict(avgpool=self.avgpool, flatten=nn.Flatten(start_dim=1)))

    def set_pooling(self, pooling: nn.Module) -> None:
        """Put another pooling in the place of the average.

        Args:
            pooling: maps (N, C, h, w) to (N, C, 1, 1).
        """
        self.avgpool = pooling

    def forward(self, images: Tensor) -> Tensor:
        """Embed images through all three parts.

        Args:
            images: normalised RGB, shape (N, 3, H, W).

        Returns:
            Embeddings v, shape (N, D).
        """
        embeddings: Tensor = self.pooling()(self.deep()(self.shallow()(images)))
        return embeddings

    def _part(self, *names: str) -> nn.Sequential:
        return nn.Sequential(OrderedDict((name, getattr(self, name)) for name in names))


def _set_stride(block: nn.Module, stride: int) -> None:
    """Set the stride of a stage's first block, in its 3x3 convolution and its shortcut."""
    is_bottleneck = isinstance(block, torchvision.models.resnet.Bottleneck)
    convolution = block.get_submodule("conv2" if is_bottleneck else "conv1")
    for layer in (convolution, block.get_submodule("downsample.0")):
        layer.stride = (stride, stride)  # type: ignore[assignment]
