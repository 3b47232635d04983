"""The two-stream backbone: one shallow encoder per resolution, one shared deep encoder [FTWA 2.1].

Letters: N images, C channels, H, W input size, h, w size of the deep map, D embedding.
"""

import copy

import torch
from torch import Tensor, nn

from resolute.core.errors import ShapeError
from resolute.core.shapes import check_shape
from resolute.models.backbone import Backbone


class TwoStream(nn.Module):
    """E_H, E_L and E_ID over any backbone.

    All maps of a training step go through E_ID in one call, so that they share their batch
    statistics; so do all images of one shallow encoder. Otherwise each stream would be
    normalised by its own statistics and tested with a mixture [assumed].

    Attributes:
        encoder_hr: E_H, or the only encoder.
        encoder_lr: E_L, own parameters started as a copy of E_H; None where one encoder serves
            both resolutions.
        encoder_id: E_ID.
        pool: from maps F (N, C, h, w) to embeddings v (N, D) [FTWA 2.3]; one call for all
            streams of a training step, as it may hold batch norm.
        feature_channels: C of the deep map.
        embedding_dim: D of the embedding.
        uses_neck: whether a neck belongs between embedding and classifier.
        input_size: (height, width) in pixels the weights are bound to, None where any fits.
    """

    def __init__(self, backbone: Backbone, *, two_encoders: bool) -> None:
        super().__init__()
        self.encoder_hr = backbone.shallow()
        self.encoder_lr = copy.deepcopy(self.encoder_hr) if two_encoders else None
        self.encoder_id = backbone.deep()
        self.pool = backbone.pooling()
        self.feature_channels = backbone.feature_channels
        self.embedding_dim = backbone.embedding_dim
        self.uses_neck = backbone.uses_neck
        self.input_size = backbone.input_size

    def maps(self, images_hr: Tensor | None, images_lr: Tensor | None) -> Tensor:
        """Encode images of both resolutions [FTWA eq. 1].

        LR images and the twins of HR images come joined in ``images_lr``; ``chunk`` or
        ``split`` parts the result.

        Args:
            images_hr: I_HR, shape (N_hr, 3, H, W), or None where there are none.
            images_lr: I_LR and I'_LR, shape (N_lr, 3, H, W), or None where there are none.

        Returns:
            Maps F of the HR images, then of the LR images, shape (N_hr + N_lr, C, h, w).

        Raises:
            ShapeError: if both are None, or their image shapes differ.
        """
        streams = (("images_hr", images_hr), ("images_lr", images_lr))
        given = {name: images for name, images in streams if images is not None}
        if not given:
            raise ShapeError("maps: expected images_hr, images_lr or both, got neither")
        check_shape("* 3 H W", **given)
        shallow = [encoder(images) for encoder, images in self._routes(given)]
        features: Tensor = self.encoder_id(torch.cat(shallow))  # (N_hr + N_lr, C, h, w)
        return features

    def _routes(self, given: dict[str, Tensor]) -> list[tuple[nn.Module, Tensor]]:
        """Pair each call of a shallow encoder with its images."""
        if self.encoder_lr is None:
            return [(self.encoder_hr, torch.cat(list(given.values())))]
        encoders = {"images_hr": self.encoder_hr, "images_lr": self.encoder_lr}
        return [(encoders[name], images) for name, images in given.items()]
