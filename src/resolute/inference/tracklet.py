"""Embed a tracklet: several images of one person as one."""

from collections.abc import Iterable, Sequence

from numpy.typing import ArrayLike

from resolute.core.types import Embedding
from resolute.inference.inputs import ImageLike
from resolute.inference.model import Model
from resolute.inference.native import ResolutionLike
from resolute.inference.pooling import pool


def embed_tracklet(
    model: Model,
    images: Iterable[ImageLike],
    *,
    resolution: ResolutionLike | Sequence[ResolutionLike] | None = None,
    batch_size: int = 32,
    channel_order: str = "rgb",
    boxes: ArrayLike | None = None,
) -> Embedding:
    """Embed several images of one person as one.

    Args:
        model: embeds each image.
        images: of one person, as for :meth:`Model.embed`; so are the other arguments.
        resolution: ``hr``, ``lr`` or ``auto``, for all or per image.
        batch_size: images per forward pass.
        channel_order: ``rgb`` or ``bgr``, of arrays and tensors.
        boxes: crops of one given image.

    Returns:
        One embedding.
    """
    return pool(
        model.embed(
            images,
            resolution=resolution,
            batch_size=batch_size,
            channel_order=channel_order,
            boxes=boxes,
        )
    )
