"""Several images of one person become one embedding, the reliable ones counting more.

Letters: N images, T tracks, S streams, D embedding.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from resolute.core.errors import ProtocolError, ShapeError
from resolute.core.types import Embedding

_TINY = 1e-12  # a shorter vector has no direction


def pool(embedding: Embedding, tracks: ArrayLike | None = None) -> Embedding:
    """Pool the embeddings of each track into one.

    Per stream the directions of the vectors are averaged, and so are their lengths, which are all 1
    with most methods. An image counts by its reliability; where none was fitted, by its native
    height; where that is unknown too, all count the same [ours]. The pooled quality is the average
    of the images' shares of trust: only their ratio means anything.

    Args:
        embedding: of N images.
        tracks: whose track each image belongs to, any labels, shape (N,); None pools all.

    Returns:
        T embeddings in the order of the sorted labels: native size and reliability are those of
        the best image of the track, norms are averaged.

    Raises:
        ShapeError: if there is not one label per image.
        ProtocolError: if there is no image, or an image has no quality in any stream.
    """
    if not len(embedding):
        raise ProtocolError("pool: expected at least one image, got none")
    labels = np.zeros(len(embedding), dtype=np.int64) if tracks is None else np.asarray(tracks)
    if labels.shape != (len(embedding),):
        raise ShapeError(f"tracks: expected shape ({len(embedding)},), got {labels.shape}")
    totals = embedding.quality.sum(axis=1, keepdims=True)
    if not totals.all():
        bad = int(np.flatnonzero(totals[:, 0] == 0)[0])
        raise ProtocolError(f"pool: image {bad} has quality 0 in every stream")
    weights = _weights(embedding)
    shares = embedding.quality / totals
    _, index = np.unique(labels, return_inverse=True)
    parts = [
        _pool_one(embedding.take(rows), weights[rows], shares[rows])
        for rows in (np.flatnonzero(index == t) for t in range(int(index.max()) + 1))
    ]
    return Embedding.concatenate(parts)


def _weights(embedding: Embedding) -> NDArray[np.float64]:
    if embedding.reliability is not None:
        values = embedding.reliability.astype(np.float64)
    elif embedding.native_sizes is not None:
        values = embedding.native_sizes[:, 0].astype(np.float64)
    else:
        values = np.ones(len(embedding))
    return np.maximum(values, 1e-6)


def _pool_one(
    images: Embedding, weights: NDArray[np.float64], shares: NDArray[np.float32]
) -> Embedding:
    if len(images) == 1:
        return images
    weights = weights / weights.sum()
    lengths = np.linalg.norm(images.vectors, axis=2, keepdims=True)  # (N, S, 1)
    direction = np.einsum("n,nsd->sd", weights, images.vectors / np.maximum(lengths, _TINY))
    direction /= np.maximum(np.linalg.norm(direction, axis=1, keepdims=True), _TINY)
    vectors = direction * np.einsum("n,nsl->sl", weights, lengths)  # (S, D)
    quality = np.einsum("n,ns->s", weights, shares)[None]
    best = int(np.argmax(weights))
    norms = None if images.norms is None else np.einsum("n,ns->s", weights, images.norms)[None]
    return replace(
        images,
        vectors=vectors[None].astype(np.float32),
        quality=quality.astype(np.float32),
        norms=None if norms is None else norms.astype(np.float32),
        native_sizes=None if images.native_sizes is None else images.native_sizes[[best]],
        reliability=None if images.reliability is None else images.reliability[[best]],
    )
