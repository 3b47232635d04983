"""A backbone whose stages are seen one by one, for methods that look inside.

Letters: N images, C channels, H, W input size, h, w size of a map, D embedding.
"""

from torch import Tensor, nn, zeros
from torch.func import functional_call

from resolute.models.backbone import Backbone


class Staged(nn.Module):
    """Stem and stages of a backbone with the map of each, and its pooling.

    Attributes:
        stages: stem and stages; the last one ends in the deep map.
        pool: from deep maps (N, C, h, w) to embeddings (N, D); the identity if not asked for.
        feature_channels: C of the deep map.
        embedding_dim: D of the embedding.
        uses_neck: whether a neck belongs between embedding and classifier.
    """

    def __init__(self, backbone: Backbone, *, has_pooling: bool = True) -> None:
        super().__init__()
        self.stages = nn.ModuleList(backbone.stages())
        self.pool: nn.Module = backbone.pooling() if has_pooling else nn.Identity()
        self.feature_channels = backbone.feature_channels
        self.embedding_dim = backbone.embedding_dim
        self.uses_neck = backbone.uses_neck

    def forward(self, images: Tensor) -> list[Tensor]:
        """Compute the maps of all stages.

        Args:
            images: normalised RGB, shape (N, 3, H, W).

        Returns:
            One map (N, C, h, w) per stage, the deep map last.
        """
        maps = []
        features = images
        for stage in self.stages:
            features = stage(features)
            maps.append(features)
        return maps

    def map_shapes(self, height: int, width: int) -> list[tuple[int, int, int]]:
        """Give the shape of each stage's map without computing any.

        Args:
            height: input height in pixels.
            width: input width in pixels.

        Returns:
            (C, h, w) per stage.
        """
        state = {name: tensor.to("meta") for name, tensor in self.state_dict().items()}
        images = zeros(2, 3, height, width, device="meta")  # batch norm asks for two values
        maps = functional_call(self, state, images)
        return [(m.shape[1], m.shape[2], m.shape[3]) for m in maps]
