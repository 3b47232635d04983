"""One vector per image, for programs that compare by cosine: the streams joined by their fusion.

Letters: N images, S streams, D embedding.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from resolute.core.errors import ProtocolError
from resolute.core.types import Embedding


def one_vector(embedding: Embedding) -> NDArray[np.float32]:
    """Join the streams of each image into one vector of length 1, see :func:`join`.

    Args:
        embedding: of N images; vectors of any length.

    Returns:
        Vectors, shape (N, S * D), or (N, D) where the fusion keeps one stream.

    Raises:
        ProtocolError: if a value is not finite, or an image that is weighed by quality has none.
    """
    vectors, quality = torch.from_numpy(embedding.vectors), torch.from_numpy(embedding.quality)
    joined = join(vectors, quality, fusion=embedding.fusion, constant=embedding.constant)
    units: NDArray[np.float32] = functional.normalize(joined, dim=1).numpy()
    bad = np.flatnonzero(~np.isfinite(units).all(axis=1))
    if len(bad):
        raise ProtocolError(
            f"image {bad[0]} has no vector ({len(bad)} such images): expected finite values, and "
            "quality above 0 in a stream"
        )
    return units


def join(vectors: Tensor, quality: Tensor, *, fusion: str, constant: float) -> Tensor:
    """Join the streams of each image into one vector, of length 1 where theirs are.

    The fusions that weigh by quality give u = [w_hr v_hr; w_lr v_lr] / n, as
    :func:`resolute.core.distance.fused_vectors`; for ``mean`` and ``constant`` the squared distance
    of two such vectors is exactly the method's own; ``hr`` and ``lr`` keep one stream [ours].

    Args:
        vectors: shape (N, S, D).
        quality: shape (N, S).
        fusion: as in `Embedding`.
        constant: share of the HR stream for the fusion ``constant``.

    Returns:
        Vectors, shape (N, S * D), or (N, D) where one stream is kept.
    """
    if vectors.shape[1] == 1:
        return vectors[:, 0]
    if fusion in ("hr", "lr"):
        return vectors[:, ("hr", "lr").index(fusion)]
    weights = quality
    if fusion == "mean":
        weights = torch.ones_like(quality)
    elif fusion == "constant":
        share = torch.tensor([constant, 1 - constant], device=quality.device)
        weights = share.sqrt().expand_as(quality)
    # The larger weight becomes 1 first: the product of two tiny ones would vanish.
    weights = weights / weights.amax(dim=1, keepdim=True)
    weights = functional.normalize(weights, dim=1)
    return (vectors * weights[:, :, None]).flatten(1)
