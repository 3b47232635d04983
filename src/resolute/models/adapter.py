"""E_L as E_H plus small changes that follow the native height of the image.

Letters: N images, C channels, h, w size of a map, r rank.
"""

import copy
from itertools import chain

import torch
from torch import Tensor, nn

from resolute.core.errors import ConfigError, ShapeError

_PROBE = (1, 3, 64, 32)  # any size: only channels are read


class ResolutionAdapters(nn.Module):
    """Changes to a shallow encoder for LR images, after its stem and after each of its blocks.

    Each changes the map by a scale and shift per channel that a small perceptron reads off the
    native height [Perez 2018], and adds a 1x1 convolution of low rank [Hu 2022]. All start at
    nothing, so E_L starts as E_H [ours].

    Attributes:
        modulation: perceptron from log height to scales and shifts of all places.
        low_rank: one pair of 1x1 convolutions per place; empty with rank 0.
    """

    def __init__(self, shallow: nn.Module, *, rank: int = 8, hidden: int = 16) -> None:
        """Build for an encoder, which is neither run nor changed.

        Args:
            shallow: E_H, in which the adapters will work.
            rank: r of the added convolutions; 0 leaves them out.
            hidden: hidden units of the perceptron.

        Raises:
            ConfigError: if a size is out of range.
        """
        super().__init__()
        if rank < 0 or hidden < 1:
            raise ConfigError(
                f"adapters: expected rank >= 0 and hidden >= 1, got {rank} and {hidden}"
            )
        channels = _channels(shallow)
        self._sizes = [size for count in channels for size in (count, count)]
        last = nn.Linear(hidden, sum(self._sizes))
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.modulation = nn.Sequential(nn.Linear(1, hidden), nn.SiLU(), last)
        self.low_rank = nn.ModuleList(_low_rank(count, rank) for count in channels if rank)

    def forward(
        self, shallow: nn.Module, images: Tensor, log_heights: Tensor, *, num_hr: int = 0
    ) -> Tensor:
        """Run the encoder; HR images pass unchanged, in the same call.

        One call, so that batch norms see the mixture that their running statistics describe.

        Args:
            shallow: E_H, the encoder these were built for.
            images: ``num_hr`` HR images, then N LR images, shape (num_hr + N, 3, H, W).
            log_heights: logarithm of the native height of each LR image over a typical one, (N,).
            num_hr: number of HR images in front.

        Returns:
            Shallow maps, shape (num_hr + N, C, h, w).

        Raises:
            ShapeError: if there are not as many heights as LR images.
        """
        if len(log_heights) != len(images) - num_hr:
            raise ShapeError(
                f"adapters: expected heights of {len(images) - num_hr} LR images, got "
                f"{len(log_heights)}"
            )
        changes = self.modulation(log_heights[:, None]).split(self._sizes, dim=1)  # (N, C) each
        features = images
        for place, stage in enumerate(_stages(shallow)):
            for step in stage:
                features = step(features)
            adapted = features[num_hr:]
            scale, shift = (c[:, :, None, None] for c in changes[2 * place : 2 * place + 2])
            change = adapted * scale + shift
            if self.low_rank:
                change = change + self.low_rank[place](adapted)
            adapted = adapted + change
            features = torch.cat([features[:num_hr], adapted]) if num_hr else adapted
        return features


def _stages(shallow: nn.Module) -> list[list[nn.Module]]:
    """Cut an encoder into its stem and the blocks of its last stage."""
    steps = list(shallow.children()) if isinstance(shallow, nn.Sequential) else [shallow]
    *stem, last = steps
    blocks = list(last.children()) if isinstance(last, nn.Sequential) else [last]
    return [stage for stage in chain([stem], ([block] for block in blocks)) if stage]


def _channels(shallow: nn.Module) -> list[int]:
    """Return the number of channels behind each stage, from shapes alone."""
    twin = copy.deepcopy(shallow).to("meta").eval()
    features = torch.empty(_PROBE, device="meta")
    channels = []
    with torch.no_grad():
        for stage in _stages(twin):
            for step in stage:
                features = step(features)
            channels.append(features.shape[1])
    return channels


def _low_rank(channels: int, rank: int) -> nn.Sequential:
    down = nn.Conv2d(channels, rank, 1, bias=False)
    up = nn.Conv2d(rank, channels, 1, bias=False)
    nn.init.zeros_(up.weight)
    return nn.Sequential(down, up)
