"""RIFE: two streams of one kind of backbone, mixed after every stage [Mao 2019].

Letters: N images, L levels, C channels, H, W input size, h, w size of a map, D embedding.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from resolute.models.backbone import Backbone

_PROBE = (1, 3, 64, 64)  # large enough for every stage of every backbone


class StreamAttention(nn.Module):
    """How much one stream counts for an image: pooling, two layers, sigmoid [Mao 2019]."""

    def __init__(self, channels: int, *, hidden: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, 1), nn.Sigmoid()
        )

    def forward(self, features: Tensor) -> Tensor:
        """Weigh maps.

        Args:
            features: shape (N, C, h, w).

        Returns:
            Attentions in 0..1, shape (N,).
        """
        attentions: Tensor = self.layers(features.mean(dim=(2, 3))).squeeze(1)
        return attentions


class MixedStreams(nn.Module):
    """Backbones whose maps are added up, weighted, after stem and every stage [Mao 2019].

    F = a1 F1 + a2 F2 enters the next stage of both streams; the last F is pooled once. The two
    attentions of a level are not normalised against each other. With one backbone F is its map.

    Attributes:
        streams: stages of each backbone; that of HR, then that of LR images.
        attentions: per level one for each stream; none with one stream.
        pool: from the last F to embeddings, the first backbone's.
        embedding_dim: D of the embedding.
        uses_neck: whether a neck belongs between embedding and classifier.
    """

    def __init__(self, backbones: Sequence[Backbone], *, hidden: int) -> None:
        """Join backbones of one kind.

        Args:
            backbones: one, or that of HR and that of LR images; the first gives the pooling.
            hidden: hidden units of each attention.
        """
        super().__init__()
        first = backbones[0]
        self.streams = nn.ModuleList(nn.ModuleList(b.stages()) for b in backbones)
        channels = _channels(first.stages()) if len(backbones) > 1 else []
        self.attentions = nn.ModuleList(
            nn.ModuleList(StreamAttention(c, hidden=hidden) for _ in backbones) for c in channels
        )
        self.pool = first.pooling()
        self.embedding_dim = first.embedding_dim
        self.uses_neck = first.uses_neck

    def maps(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Describe images by maps.

        Args:
            images: normalised RGB, shape (N, 3, H, W).

        Returns:
            The last F, shape (N, C, h, w), and all attentions in 0..1, shape (N, L, 2); L = 0 with
            one stream.
        """
        mixed, found = images, []
        for level, stages in enumerate(zip(*self._stages, strict=True)):
            features = [stage(mixed) for stage in stages]  # (N, C, h, w) per stream
            if len(features) == 1:
                mixed = features[0]
                continue
            weights = self._attentions(level, features)  # (N, 2)
            mixed = weights[:, 0, None, None, None] * features[0]
            mixed = mixed + weights[:, 1, None, None, None] * features[1]
            found.append(weights)
        if not found:
            # shape, not len: an exporter would take the length for a constant.
            return mixed, images.new_empty(images.shape[0], 0, 2)
        return mixed, torch.stack(found, dim=1)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Embed images.

        Args:
            images: normalised RGB, shape (N, 3, H, W).

        Returns:
            Embeddings, shape (N, D), and all attentions in 0..1, shape (N, L, 2).
        """
        features, attentions = self.maps(images)
        return self.pool(features), attentions

    @property
    def _stages(self) -> list[list[nn.Module]]:
        return [list(stream.children()) for stream in self.streams]

    def _attentions(self, level: int, features: Sequence[Tensor]) -> Tensor:
        attend = self.attentions[level].children()
        return torch.stack([a(f) for a, f in zip(attend, features, strict=True)], dim=1)


def _channels(stages: Sequence[nn.Module]) -> list[int]:
    """Count the channels after each stage of a new backbone by sending a black picture through."""
    found, features = [], torch.zeros(_PROBE)
    with torch.no_grad():
        for stage in stages:
            features = stage.eval()(features)
            stage.train()
            found.append(features.shape[1])
    return found
