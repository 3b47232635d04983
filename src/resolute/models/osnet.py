"""OSNet [Zhou 2019] with Torchreid's parameter names, and the variant of Open Model Zoo's 0267.

Letters: N images, C channels, H, W input size, h, w size of the deep map, D embedding.
"""

from collections import OrderedDict
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from resolute.core.errors import ConfigError

BOTTLENECK = 4  # a block's inner width is its output divided by this [Zhou 2019]
GATE_REDUCTION = 16  # [Zhou 2019]
GATE_GROUPS = 16  # of the variant's group-norm gate [Open Model Zoo 0267]
DEEP_STRIDE = 16  # input size over deep map size


class OSNet(nn.Module):
    """Omni-scale network: light 3x3 convolutions stacked one to four deep, joined by a shared gate.

    The plain form averages the deep map and ends in ``fc`` = linear, batch norm, ReLU. The
    variant ``learned_pooling`` normalises its input and its stem per image, gates every second
    block by group norm, and pools with learned weights, which fixes its input size.

    Attributes:
        feature_channels: C of the deep map F.
        embedding_dim: D of the embedding v.
        uses_neck: False, because ``fc`` already ends in batch norm [assumed].
        input_size: (height, width) in pixels the pooling was learned for, None where any size fits.
    """

    def __init__(
        self,
        channels: tuple[int, int, int, int],
        *,
        embedding_dim: int = 512,
        learned_pooling: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        stem, first, second, third = channels
        variant = learned_pooling is not None
        self.feature_channels = third
        self.embedding_dim = embedding_dim
        self.uses_neck = False
        self.input_size = learned_pooling

        self.in_first = nn.InstanceNorm2d(3, affine=True) if variant else None
        self.conv1 = _instance_norm_stem(stem) if variant else _conv_bn(3, stem, kernel=7, stride=2)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.conv2 = _stage(stem, first, transition=True, variant=variant)
        self.conv3 = _stage(first, second, transition=True, variant=variant)
        self.conv4 = _stage(second, third, transition=False, variant=variant)
        self.conv5 = _conv_bn(third, third)
        self.global_avgpool: nn.Module = (
            nn.AdaptiveAvgPool2d(1)
            if learned_pooling is None
            else LearnedPooling(third, learned_pooling)
        )
        self.fc = nn.Sequential(
            nn.Linear(third, embedding_dim),
            nn.BatchNorm1d(embedding_dim),
            nn.PReLU() if variant else nn.ReLU(inplace=True),
        )
        self.apply(_initialise)

    def shallow(self) -> nn.Sequential:
        """Return stem and first stage with its transition: (N, 3, H, W) to (N, C1, H/8, W/8)."""
        return self._part("in_first", "conv1", "maxpool", "conv2")

    def deep(self) -> nn.Sequential:
        """Return the remaining stages: (N, C1, H/8, W/8) to the map F (N, C, H/16, W/16)."""
        return self._part("conv3", "conv4", "conv5")

    def stages(self) -> list[nn.Sequential]:
        """Return stem and the three stages, one after the other: together shallow and deep."""
        stem = self._part("in_first", "conv1", "maxpool")
        return [stem, self._part("conv2"), self._part("conv3"), self._part("conv4", "conv5")]

    def pooling(self) -> nn.Sequential:
        """Return global pooling and ``fc``: (N, C, h, w) to (N, D)."""
        return nn.Sequential(
            OrderedDict(
                global_avgpool=self.global_avgpool, flatten=nn.Flatten(start_dim=1), fc=self.fc
            )
        )

    def set_pooling(self, pooling: nn.Module) -> None:
        """Put another pooling in the place of the average.

        Args:
            pooling: maps (N, C, h, w) to (N, C, 1, 1).

        Raises:
            ConfigError: if the pooling of this network is learned, not an average.
        """
        if self.input_size is not None:
            raise ConfigError(
                "pooling: this backbone has a learned weight for every place of the map, which "
                "another pooling would throw away: leave model.pooling at 'backbone', or use a "
                "backbone with average pooling such as osnet_x0_5"
            )
        self.global_avgpool = pooling

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
        modules = ((name, getattr(self, name)) for name in names)
        present = OrderedDict((name, module) for name, module in modules if module is not None)
        return NormalisedStem(present) if "in_first" in present else nn.Sequential(present)


class NormalisedStem(nn.Sequential):
    """``in_first``, ``conv1`` and what follows them, one after the other.

    In training the three scales and shifts of ``in_first`` enter through the weights of ``conv1``:
    the same sums in another order, without the gradient of every pixel, which nothing else asks
    for (`benchmarks/stem.py`) [ours].
    """

    in_first: nn.InstanceNorm2d
    conv1: nn.Sequential

    def forward(self, images: Tensor) -> Tensor:
        """Transform images.

        Args:
            images: normalised RGB, shape (N, 3, H, W).

        Returns:
            What the last layer gives, shape (N, C, h, w).
        """
        if images.requires_grad or not torch.is_grad_enabled():
            plain: Tensor = super().forward(images)  # type: ignore[no-untyped-call]  # torch's
            return plain
        scale, shift = (p[:, None, None] for p in (self.in_first.weight, self.in_first.bias))
        conv = cast("nn.Conv2d", self.conv1[0])
        normalised = functional.instance_norm(images, eps=self.in_first.eps)
        features = _convolve(conv, normalised, conv.weight * scale)
        features = features + _convolve(conv, shift.expand_as(images[:1]), conv.weight)
        for layer in (*self.conv1[1:], *self[2:]):
            features = layer(features)
        return features


class OSBlock(nn.Module):
    """Four streams of growing receptive field (3, 5, 7, 9) under one shared gate [Zhou 2019]."""

    def __init__(self, in_channels: int, out_channels: int, gate: nn.Module) -> None:
        super().__init__()
        width = out_channels // BOTTLENECK
        self.conv1 = _conv_bn(in_channels, width)
        self.conv2a = _light_conv(width)
        self.conv2b = nn.Sequential(*(_light_conv(width) for _ in range(2)))
        self.conv2c = nn.Sequential(*(_light_conv(width) for _ in range(3)))
        self.conv2d = nn.Sequential(*(_light_conv(width) for _ in range(4)))
        self.gate = gate
        self.conv3 = _conv_bn(width, out_channels, relu=False)
        self.downsample = (
            _conv_bn(in_channels, out_channels, relu=False) if in_channels != out_channels else None
        )

    def forward(self, features: Tensor) -> Tensor:
        """Transform a map.

        Args:
            features: shape (N, C_in, h, w).

        Returns:
            Map of shape (N, C_out, h, w).
        """
        x = self.conv1(features)  # (N, C_out / 4, h, w)
        a, b, c, d = self.conv2a(x), self.conv2b(x), self.conv2c(x), self.conv2d(x)
        x = a * self.gate(a) + b * self.gate(b) + c * self.gate(c) + d * self.gate(d)
        shortcut = features if self.downsample is None else self.downsample(features)
        return torch.relu(self.conv3(x) + shortcut)  # (N, C_out, h, w)


class ChannelGate(nn.Module):
    """Weight per channel from the channel means through two 1x1 convolutions [Zhou 2019]."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, channels // GATE_REDUCTION, 1)
        self.fc2 = nn.Conv2d(channels // GATE_REDUCTION, channels, 1)

    def forward(self, features: Tensor) -> Tensor:
        """Compute the gate.

        Args:
            features: shape (N, C, h, w).

        Returns:
            Weights in 0..1, shape (N, C, 1, 1).
        """
        means = features.mean(dim=(2, 3), keepdim=True)  # (N, C, 1, 1)
        return torch.sigmoid(self.fc2(torch.relu(self.fc1(means))))


class GroupNormGate(nn.Module):
    """Weight per channel from the channel means through group norm [Open Model Zoo 0267]."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gn = nn.GroupNorm(GATE_GROUPS, channels)

    def forward(self, features: Tensor) -> Tensor:
        """Compute the gate.

        Args:
            features: shape (N, C, h, w).

        Returns:
            Weights in 0..1, shape (N, C, 1, 1).
        """
        return torch.sigmoid(self.gn(features.mean(dim=(2, 3), keepdim=True)))


class LearnedPooling(nn.Module):
    """Weighted sum over the whole map, weights and bias per channel [Open Model Zoo 0267].

    The same numbers as a depth-wise convolution with a kernel of the map's size. Started as
    the plain average [ours].

    Attributes:
        weight: weight of every position, shape (C, 1, h, w).
        bias: shape (C,).
    """

    def __init__(self, channels: int, input_size: tuple[int, int]) -> None:
        super().__init__()
        self.input_size = input_size
        height, width = (side // DEEP_STRIDE for side in input_size)
        self.weight = nn.Parameter(torch.full((channels, 1, height, width), 1 / (height * width)))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, features: Tensor) -> Tensor:
        """Pool a map.

        Args:
            features: shape (N, C, h, w).

        Returns:
            Vectors of shape (N, C).

        Raises:
            ConfigError: if the map is not of the size the weights were learned for.
        """
        if features.shape[2:] != self.weight.shape[2:]:
            wanted = "x".join(str(side) for side in self.input_size)
            raise ConfigError(
                f"learned pooling: expected a map of {tuple(self.weight.shape[2:])}, got "
                f"{tuple(features.shape[2:])}: use input size {wanted} (height x width), or "
                "a backbone with average pooling such as osnet_x0_5"
            )
        return (features * self.weight.squeeze(1)).sum(dim=(2, 3)) + self.bias  # (N, C)


def _convolve(conv: nn.Conv2d, features: Tensor, weight: Tensor) -> Tensor:
    return functional.conv2d(features, weight, stride=conv.stride, padding=conv.padding)


def _instance_norm_stem(out_channels: int) -> nn.Sequential:
    return nn.Sequential(
        OrderedDict(
            conv=nn.Conv2d(3, out_channels, 7, stride=2, padding=3, bias=False),
            bn=nn.InstanceNorm2d(out_channels, affine=True),
            relu=nn.ReLU(),  # in place on instance norm's view would cost autograd a copy
        )
    )


def _conv_bn(
    in_channels: int, out_channels: int, *, kernel: int = 1, stride: int = 1, relu: bool = True
) -> nn.Sequential:
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        conv=nn.Conv2d(
            in_channels, out_channels, kernel, stride=stride, padding=kernel // 2, bias=False
        ),
        bn=nn.BatchNorm2d(out_channels),
    )
    if relu:
        layers["relu"] = nn.ReLU(inplace=True)
    return nn.Sequential(layers)


def _light_conv(channels: int) -> nn.Sequential:
    """A 3x3 convolution taken apart: 1x1 across channels, then 3x3 within each."""
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(channels, channels, 1, bias=False),
            conv2=nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False),
            bn=nn.BatchNorm2d(channels),
            relu=nn.ReLU(inplace=True),
        )
    )


def _stage(
    in_channels: int, out_channels: int, *, transition: bool, variant: bool
) -> nn.Sequential:
    width = out_channels // BOTTLENECK
    second_gate = GroupNormGate(width) if variant else ChannelGate(width)
    stage = nn.Sequential(
        OSBlock(in_channels, out_channels, ChannelGate(width)),
        OSBlock(out_channels, out_channels, second_gate),
    )
    if transition:
        stage.append(nn.Sequential(_conv_bn(out_channels, out_channels), nn.AvgPool2d(2)))
    return stage


def _initialise(module: nn.Module) -> None:
    """Start values as in Torchreid."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=0.01)
        nn.init.zeros_(module.bias)
