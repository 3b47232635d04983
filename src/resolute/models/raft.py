"""RAFT: turns a low-resolution feature map into its high-resolution counterpart [FTWA 2.2].

Letters: N images, C channels of the backbone's map, w inner width, h, w of the map as ``h x w``.
"""

import torch
from torch import Tensor, nn

from resolute.core.errors import ConfigError

REDUCTION = 16  # of the channel attention [Hui 2019]


class RAFT(nn.Module):
    """T of the paper: head, blocks in series whose outputs are all joined, tail [FTWA Fig. 2].

    F'_HR = T(F_LR) [FTWA eq. 3]. Every convolution is 3x3 with bias and keeps the map's size,
    or 1x1 where it joins [Hui 2019].
    """

    def __init__(
        self,
        channels: int,
        *,
        width: int = 64,
        num_blocks: int = 3,
        slope: float = 0.05,
        input_residual: bool = True,
        bare_tail: bool = True,
        zero_tail: bool = True,
    ) -> None:
        """Build with random weights drawn from torch's default generator.

        Args:
            channels: C of the map, in and out.
            width: channels inside, a multiple of 16 [assumed: Hui 2019].
            num_blocks: RAFT blocks in series [assumed].
            slope: negative slope of every LeakyReLU [assumed: Hui 2019].
            input_residual: add the input to the output, so T learns a difference [ours].
            bare_tail: no LeakyReLU after the tail, so a difference can be negative [ours].
            zero_tail: start the tail at zero; with ``input_residual``, T starts as the
                identity [ours].

        Raises:
            ConfigError: if a setting is out of range.
        """
        super().__init__()
        if width < REDUCTION or width % REDUCTION:
            raise ConfigError(f"raft width: expected a multiple of {REDUCTION}, got {width}")
        if num_blocks < 1:
            raise ConfigError(f"raft num_blocks: expected at least 1, got {num_blocks}")
        if zero_tail and not input_residual:
            raise ConfigError(
                "raft zero_tail: without input_residual the output would start at zero: set "
                "zero_tail to false as well"
            )
        self.input_residual = input_residual
        self.head = _conv(channels, width, slope)
        self.blocks = nn.ModuleList(RAFTB(width, slope=slope) for _ in range(num_blocks))
        self.join = nn.Sequential(nn.Conv2d(num_blocks * width, width, 1), nn.LeakyReLU(slope))
        self.tail = nn.Sequential(nn.Conv2d(width, channels, 3, padding=1))
        if zero_tail:
            for parameter in self.tail.parameters():
                nn.init.zeros_(parameter)
        if not bare_tail:
            self.tail.append(nn.LeakyReLU(slope))

    def forward(self, features_lr: Tensor) -> Tensor:
        """Transform a low-resolution map.

        Args:
            features_lr: F_LR or F'_LR, shape (N, C, h, w).

        Returns:
            F'_HR = T(F_LR), shape (N, C, h, w).
        """
        head: Tensor = self.head(features_lr)  # (N, width, h, w)
        outputs = [head]
        for block in self.blocks:
            outputs.append(block(outputs[-1]))
        joined = self.join(torch.cat(outputs[1:], dim=1)) + head  # (N, width, h, w)
        change: Tensor = self.tail(joined)  # (N, C, h, w)
        return features_lr + change if self.input_residual else change


class RAFTB(nn.Module):
    """One block: distil half of the channels at each step, join, weigh channels [FTWA Fig. 2].

    It follows the multi-distillation block of [Hui 2019] with what the paper changes: equal
    halves, activation after every 3x3 convolution, attention from the plain channel mean.
    """

    def __init__(self, width: int, *, slope: float = 0.05) -> None:
        super().__init__()
        half = width // 2
        self.distil = nn.ModuleList(
            (_conv(width, width, slope), _conv(half, width, slope), _conv(half, width, slope))
        )
        self.last = _conv(half, half, slope)
        self.join = nn.Conv2d(2 * width, width, 1)
        self.attention = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(width, width // REDUCTION, 1),
            nn.LeakyReLU(slope),
            nn.Conv2d(width // REDUCTION, width, 1),
            nn.Sigmoid(),
        )

    def forward(self, features: Tensor) -> Tensor:
        """Refine a map.

        Args:
            features: shape (N, width, h, w).

        Returns:
            Map of the same shape.
        """
        kept, passed = [], features
        for convolution in self.distil:
            keep, passed = convolution(passed).chunk(2, dim=1)  # (N, width / 2, h, w) each
            kept.append(keep)
        kept.append(self.last(passed))
        joined: Tensor = self.join(torch.cat(kept, dim=1))  # (N, 2 width) to (N, width, h, w)
        gate: Tensor = self.attention(joined)  # (N, width, 1, 1)
        return features + joined * gate


def _conv(in_channels: int, out_channels: int, slope: float) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(in_channels, out_channels, 3, padding=1), nn.LeakyReLU(slope))
