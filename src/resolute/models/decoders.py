"""A decoder: from the maps of an encoder back to an image.

Letters: N images, C channels, H, W image size, h, w size of the deep map.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from resolute.core.errors import ConfigError
from resolute.core.types import InputSpec
from resolute.models.staged import Staged

SLOPE = 0.2  # of every leaky ReLU [ARN]


class Decoder(nn.Module):
    """Blocks of transposed convolutions that double the map until it is an image [ARN].

    Each block has ``num_convs`` 3x3 convolutions with batch norm and leaky ReLU, the first of which
    doubles the map. The last one ends in tanh, whose range is laid on pixels 0..1 and normalised as
    network input is: every image can be reached, and the result can be fed to an encoder [ours].
    Where there are more blocks than doublings the first blocks keep the size [assumed].

    Attributes:
        blocks: of the convolutions.
        skips: for each block the index of the encoder map that joins its input, or None.
    """

    scale: Tensor
    shift: Tensor

    def __init__(
        self,
        shapes: Sequence[tuple[int, int, int]],
        widths: Sequence[int],
        *,
        num_convs: int,
        has_skips: bool,
        input_spec: InputSpec,
    ) -> None:
        """Build with random weights drawn from torch's default generator.

        Args:
            shapes: (C, h, w) of each map of the encoder, see :meth:`Staged.map_shapes`.
            widths: channels that each block but the last leaves.
            num_convs: convolutions per block.
            has_skips: join each map of the encoder that has the size of a block's input, the last
                of its size, by concatenation.
            input_spec: size of the image, and how its pixels are normalised.

        Raises:
            ConfigError: if widths or number of convolutions are out of range, the blocks are too
                few, or doublings of the deep map do not give the image.
        """
        super().__init__()
        if num_convs < 1 or not widths or any(width < 1 for width in widths):
            raise ConfigError(
                "decoder: expected widths of at least 1 and at least one convolution per block, "
                f"got {tuple(widths)} and {num_convs}"
            )
        strides = _strides(shapes[-1][1:], input_spec, num_blocks=len(widths) + 1)
        self.skips = _skips(shapes, strides) if has_skips else (None,) * len(strides)
        joined = [0 if skip is None else shapes[skip][0] for skip in self.skips]
        inputs = [c + more for c, more in zip([shapes[-1][0], *widths], joined, strict=True)]
        *blocks, last = zip(inputs, strides, strict=True)
        self.blocks = nn.ModuleList(
            _block(channels, width, stride, num_convs)
            for (channels, stride), width in zip(blocks, widths, strict=True)
        )
        self.blocks.append(_last_block(last[0], widths[-1], last[1], num_convs))
        mean, std = torch.tensor(input_spec.mean), torch.tensor(input_spec.std)
        self.register_buffer("scale", (0.5 / std).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("shift", ((0.5 - mean) / std).view(1, 3, 1, 1), persistent=False)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Make images of maps.

        Args:
            maps: of all stages of the encoder, the deep map last; without skips that one alone is
                read.

        Returns:
            Normalised RGB, float32, shape (N, 3, H, W).
        """
        features = maps[-1]
        for block, skip in zip(self.blocks, self.skips, strict=True):
            if skip is not None:
                features = torch.cat([features, maps[skip]], dim=1)
            features = block(features)  # (N, C, 2h, 2w) where it doubles
        return torch.tanh(features.float()) * self.scale + self.shift


def decoder_of(
    encoder: Staged,
    widths: Sequence[int],
    *,
    num_convs: int,
    has_skips: bool,
    input_spec: InputSpec,
) -> Decoder:
    """Build the decoder that fits an encoder.

    Args:
        encoder: gives the maps.
        widths: see :class:`Decoder`.
        num_convs: see there.
        has_skips: see there.
        input_spec: see there.
    """
    shapes = encoder.map_shapes(input_spec.height, input_spec.width)
    return Decoder(shapes, widths, num_convs=num_convs, has_skips=has_skips, input_spec=input_spec)


def _strides(deep: tuple[int, ...], input_spec: InputSpec, *, num_blocks: int) -> tuple[int, ...]:
    height, width = deep
    num_doublings = (input_spec.height // height).bit_length() - 1
    factor = 2**num_doublings
    if (height * factor, width * factor) != (input_spec.height, input_spec.width):
        raise ConfigError(
            f"decoder: doublings of a {height}x{width} map do not give an image of "
            f"{input_spec.height}x{input_spec.width} (height x width): use sides that are "
            "multiples of 32"
        )
    if num_blocks < num_doublings:
        raise ConfigError(
            f"decoder: expected at least {num_doublings - 1} widths to come from a "
            f"{height}x{width} map to an image, got {num_blocks - 1}"
        )
    return (1,) * (num_blocks - num_doublings) + (2,) * num_doublings


def _skips(
    shapes: Sequence[tuple[int, int, int]], strides: Sequence[int]
) -> tuple[int | None, ...]:
    by_size = {shape[1:]: index for index, shape in enumerate(shapes)}  # the last of each size
    size = deep = shapes[-1][1:]
    skips = []
    for stride in strides:
        skips.append(by_size.get(size) if size != deep else None)
        size = (size[0] * stride, size[1] * stride)
    return tuple(skips)


def _block(in_channels: int, out_channels: int, stride: int, num_convs: int) -> nn.Sequential:
    channels = [in_channels] + [out_channels] * num_convs
    return nn.Sequential(
        *(
            nn.Sequential(
                _convolution(a, b, stride if i == 0 else 1, bias=False),
                nn.BatchNorm2d(b),
                nn.LeakyReLU(SLOPE),
            )
            for i, (a, b) in enumerate(pairwise(channels))
        )
    )


def _last_block(in_channels: int, width: int, stride: int, num_convs: int) -> nn.Sequential:
    """As the others, but its last convolution gives three channels and nothing after it."""
    if num_convs == 1:
        return nn.Sequential(_convolution(in_channels, 3, stride, bias=True))
    block = _block(in_channels, width, stride, num_convs - 1)
    return block.append(_convolution(width, 3, 1, bias=True))


def _convolution(in_channels: int, out_channels: int, stride: int, *, bias: bool) -> nn.Module:
    """A transposed 3x3 convolution; of stride 1 it is a plain one with its kernel turned round."""
    if stride == 1:
        return nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=bias)
    return nn.ConvTranspose2d(
        in_channels, out_channels, 3, stride=2, padding=1, output_padding=1, bias=bias
    )
