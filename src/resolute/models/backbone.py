"""What a backbone is, and the table of those we have.

Letters: N images, C channels, h, w size of the deep map, D embedding.
"""

from collections.abc import Callable
from typing import Protocol

from torch import Tensor, nn

from resolute.core.config import unknown_name
from resolute.core.errors import ConfigError
from resolute.models.config import BackboneName
from resolute.models.osnet import OSNet
from resolute.models.resnet import ResNet


class Backbone(Protocol):
    """A network cut in three, so that a method can own the shallow part once per resolution.

    Nine members where the guide asks for five: four facts that heads are sized by, three
    parts, the stages for methods that look inside, and the whole.

    Attributes:
        feature_channels: C of the deep map F.
        embedding_dim: D of the embedding v.
        uses_neck: whether a neck belongs between v and the classifier.
        input_size: (height, width) in pixels the pooling is bound to, None where any fits.
    """

    feature_channels: int
    embedding_dim: int
    uses_neck: bool
    input_size: tuple[int, int] | None

    def shallow(self) -> nn.Module:
        """Return stem and first stage; parameters are shared with the whole, not copied."""

    def deep(self) -> nn.Module:
        """Return the remaining stages, ending in the map F (N, C, h, w)."""

    def stages(self) -> list[nn.Sequential]:
        """Return stem and stages one after the other; together they are shallow and deep."""

    def pooling(self) -> nn.Module:
        """Return the way from F to v (N, D)."""

    def forward(self, images: Tensor) -> Tensor:
        """Embed images through all three parts."""


# Torchreid's widths; the variants are Open Model Zoo's person-reidentification-retail-0267, -0277.
BACKBONES: dict[BackboneName, Callable[..., ResNet | OSNet]] = {
    "resnet18": lambda **stem: ResNet(18, **stem),
    "resnet34": lambda **stem: ResNet(34, **stem),
    "resnet50": lambda **stem: ResNet(50, **stem),
    "resnet101": lambda **stem: ResNet(101, **stem),
    "osnet_x0_25": lambda: OSNet((16, 64, 96, 128)),
    "osnet_x0_5": lambda: OSNet((32, 128, 192, 256)),
    "osnet_x0_75": lambda: OSNet((48, 192, 288, 384)),
    "osnet_x1_0": lambda: OSNet((64, 256, 384, 512)),
    "osnet_gn_x0_5": lambda: OSNet(
        (32, 128, 192, 256), embedding_dim=256, learned_pooling=(256, 128)
    ),
    "osnet_gn_x1_0": lambda: OSNet(
        (64, 256, 384, 512), embedding_dim=256, learned_pooling=(256, 128)
    ),
}


def build_backbone(
    name: str,
    *,
    last_stride: int = 1,
    stem_relu: bool = True,
    stem_pool_padding: int = 1,
) -> ResNet | OSNet:
    """Build a backbone with random weights drawn from torch's default generator.

    Args:
        name: key of ``BACKBONES``.
        last_stride: for ResNets, see :class:`~resolute.models.config.ModelConfig`.
        stem_relu: for ResNets, see there.
        stem_pool_padding: for ResNets, see there.

    Returns:
        The network, in training mode.

    Raises:
        ConfigError: if the name is unknown, a setting is out of range, or a ResNet's setting
            is asked of an OSNet.

    Examples:
        >>> build_backbone("osnet_x0_25").embedding_dim
        512
    """
    if name not in BACKBONES:
        raise ConfigError(unknown_name("backbone", name, list(BACKBONES)))
    settings = {
        "last_stride": last_stride,
        "stem_relu": stem_relu,
        "stem_pool_padding": stem_pool_padding,
    }
    if name.startswith("resnet"):
        return BACKBONES[name](**settings)
    defaults = {"last_stride": 1, "stem_relu": True, "stem_pool_padding": 1}
    changed = [key for key, value in settings.items() if value != defaults[key]]
    if changed:
        raise ConfigError(
            f"{', '.join(changed)}: only ResNets have this setting, the backbone is {name}: "
            "leave it at its default"
        )
    return BACKBONES[name]()


def check_input_size(backbone: Backbone, height: int, width: int) -> None:
    """Check that a backbone takes this input size.

    Args:
        backbone: any backbone.
        height: input height in pixels.
        width: input width in pixels.

    Raises:
        ConfigError: if its pooling was learned for another size.
    """
    if backbone.input_size not in (None, (height, width)):
        wanted = "x".join(str(side) for side in backbone.input_size or ())
        raise ConfigError(
            f"input size: the pooling of this backbone was learned for {wanted}, got "
            f"{height}x{width} (height x width): use {wanted}, or a backbone with average "
            "pooling such as osnet_x0_5"
        )
