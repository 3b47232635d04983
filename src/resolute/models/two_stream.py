"""The two-stream backbone: one shallow encoder per resolution, one shared deep encoder [FTWA 2.1].

Letters: N images, C channels, H, W input size, h, w size of the deep map, D embedding.
"""

import copy

import torch
from torch import Tensor, nn

from resolute.core.errors import ConfigError, ShapeError
from resolute.core.shapes import check_shape
from resolute.models.adapter import ResolutionAdapters
from resolute.models.backbone import Backbone


class TwoStream(nn.Module):
    """E_H, E_L and E_ID over any backbone.

    All maps of a training step go through E_ID in one call, so that they share their batch
    statistics; so do all images of one shallow encoder. Otherwise each stream would be
    normalised by its own statistics and tested with a mixture [assumed].

    Attributes:
        encoder_hr: E_H, or the only encoder.
        encoder_lr: E_L, own parameters started as a copy of E_H; None where one encoder serves
            both resolutions, or E_L is E_H with adapters.
        adapters: what makes E_L of E_H; None where E_L is a copy or there is none [ours].
        encoder_id: E_ID.
        pool: from maps F (N, C, h, w) to embeddings v (N, D) [FTWA 2.3]; one call for all
            streams of a training step, as it may hold batch norm.
        feature_channels: C of the deep map.
        embedding_dim: D of the embedding.
        uses_neck: whether a neck belongs between embedding and classifier.
        input_size: (height, width) in pixels the weights are bound to, None where any fits.
    """

    def __init__(
        self,
        backbone: Backbone,
        *,
        two_encoders: bool,
        adapters: ResolutionAdapters | None = None,
    ) -> None:
        super().__init__()
        self.encoder_hr = backbone.shallow()
        has_copy = two_encoders and adapters is None
        self.encoder_lr = copy.deepcopy(self.encoder_hr) if has_copy else None
        self.adapters = adapters
        self.encoder_id = backbone.deep()
        self.pool = backbone.pooling()
        self.feature_channels = backbone.feature_channels
        self.embedding_dim = backbone.embedding_dim
        self.uses_neck = backbone.uses_neck
        self.input_size = backbone.input_size

    @property
    def lr_part(self) -> str:
        """Name of the part that LR images alone meet before E_ID; else of the only encoder."""
        if self.adapters is not None:
            return "adapters"
        return "encoder_hr" if self.encoder_lr is None else "encoder_lr"

    def maps(
        self,
        images_hr: Tensor | None,
        images_lr: Tensor | None,
        *,
        log_heights_lr: Tensor | None = None,
    ) -> Tensor:
        """Encode images of both resolutions [FTWA eq. 1].

        LR images and the twins of HR images come joined in ``images_lr``; ``chunk`` or
        ``split`` parts the result.

        Args:
            images_hr: I_HR, shape (N_hr, 3, H, W), or None where there are none.
            images_lr: I_LR and I'_LR, shape (N_lr, 3, H, W), or None where there are none.
            log_heights_lr: logarithm of the native height of each LR image over a typical one,
                shape (N_lr,); read by adapters alone.

        Returns:
            Maps F of the HR images, then of the LR images, shape (N_hr + N_lr, C, h, w).

        Raises:
            ShapeError: if both are None, or their image shapes differ.
            ConfigError: if there are adapters, LR images and no heights.
        """
        streams = (("images_hr", images_hr), ("images_lr", images_lr))
        given = {name: images for name, images in streams if images is not None}
        if not given:
            raise ShapeError("maps: expected images_hr, images_lr or both, got neither")
        check_shape("* 3 H W", **given)
        if self.adapters is not None and images_lr is not None:
            shallow = self._adapted(self.adapters, given, log_heights_lr)
        else:
            shallow = torch.cat([encoder(images) for encoder, images in self._routes(given)])
        features: Tensor = self.encoder_id(shallow)  # (N_hr + N_lr, C, h, w)
        return features

    def _adapted(
        self, adapters: ResolutionAdapters, given: dict[str, Tensor], log_heights: Tensor | None
    ) -> Tensor:
        if log_heights is None:
            raise ConfigError("maps: the adapters of E_L read native heights, and got none")
        num_hr = len(given["images_hr"]) if "images_hr" in given else 0
        images = torch.cat(list(given.values()))  # HR images first
        shallow: Tensor = adapters(self.encoder_hr, images, log_heights, num_hr=num_hr)
        return shallow

    def _routes(self, given: dict[str, Tensor]) -> list[tuple[nn.Module, Tensor]]:
        """Pair each call of a shallow encoder with its images."""
        if self.encoder_lr is None:
            return [(self.encoder_hr, torch.cat(list(given.values())))]
        encoders = {"images_hr": self.encoder_hr, "images_lr": self.encoder_lr}
        return [(encoders[name], images) for name, images in given.items()]
