"""Settings of the backbone; loads no torch, so that the command line can list them at once."""

from dataclasses import dataclass
from typing import Literal, get_args

from resolute.core.config import unknown_name
from resolute.core.errors import ConfigError

BackboneName = Literal[
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "osnet_x0_25",
    "osnet_x0_5",
    "osnet_x0_75",
    "osnet_x1_0",
    "osnet_gn_x0_5",
    "osnet_gn_x1_0",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """Which backbone, from which weights, at which input size.

    Attributes:
        backbone: network under both streams [FTWA 3.2: resnet50].
        weights: where it starts: a weight file (ours, Torchreid's, FastReID's), ``imagenet``
            (ResNets only [FTWA 3.2]), or empty for random.
        partial_weights: accept a weight file that fills only a part of the backbone; the rest
            stays random.
        last_stride: stride of a ResNet's last stage [FTWA 3.2: 1].
        stem_relu: ReLU after a ResNet's first batch norm as in torchvision; false leaves it
            out [strong baseline].
        stem_pool_padding: padding of a ResNet's first max-pool; 0 for weights trained by
            FastReID, whose pool has none.
        pooling: backbone = its own, the average but for osnet_gn_* [FTWA 2.3]; gem = generalised
            mean with one learned exponent, started at 3 [ours].
        height: input height in pixels [assumed: strong baseline].
        width: input width in pixels [assumed: strong baseline].
    """

    backbone: BackboneName = "resnet50"
    weights: str = ""
    partial_weights: bool = False
    last_stride: int = 1
    stem_relu: bool = True
    stem_pool_padding: int = 1
    pooling: Literal["backbone", "gem"] = "backbone"
    height: int = 256
    width: int = 128

    def __post_init__(self) -> None:
        if self.backbone not in get_args(BackboneName):
            raise ConfigError(unknown_name("backbone", self.backbone, list(get_args(BackboneName))))
        if self.last_stride not in (1, 2):
            raise ConfigError(f"last_stride: expected 1 or 2, got {self.last_stride}")
        if self.stem_pool_padding not in (0, 1):
            raise ConfigError(f"stem_pool_padding: expected 0 or 1, got {self.stem_pool_padding}")
        if self.height < 32 or self.width < 32:
            raise ConfigError(
                f"input size: expected at least 32x32, got {self.height}x{self.width} "
                "(height x width)"
            )
