"""Query expansion: ask again with the mean of a query and its nearest gallery images.

Letters: Q queries, G gallery, S streams, D embedding, n neighbours.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from resolute.core.distance import CHUNK_BYTES, distance_rows
from resolute.core.errors import ConfigError, ProtocolError
from resolute.core.types import Embedding

# Fusions whose distance asks how far each stream is trusted.
_TRUSTING = ("weighted", "query_weighted", "fused")
_UNIT_TOLERANCE = 1e-3

Positions = NDArray[np.int64]
Floats = NDArray[np.float32]


def expand_queries(
    query: Embedding,
    gallery: Embedding,
    *,
    num_neighbours: int,
    alpha: float = 0.0,
    chunk_bytes: int = CHUNK_BYTES,
) -> Embedding:
    """Replace each query by the mean of itself and its nearest gallery images.

    The neighbours are those of the embeddings' own distance. With alpha 0 all count the same
    [Chum 2007]; otherwise each counts similarity^alpha, negative similarities nothing, and the
    query itself 1 [Radenovic 2019]. The similarity is 1 - d / 2 of the fused squared distance,
    for one stream the cosine.

    Two spaces [ours]: each stream is averaged apart and scaled to length 1 again. An image counts
    in a stream as far as it trusts that stream, its larger quality taken as 1, where the fusion
    weighs by quality; the expanded query's quality is the mean of these trusts. So an image that
    speaks for one space alone does not blur the other.

    Args:
        query: embeddings of Q images, vectors of length 1.
        gallery: embeddings of G images, with the same S, D, metric and fusion.
        num_neighbours: n, gallery images per query; fewer where the gallery is smaller.
        alpha: exponent of the similarity, >= 0.
        chunk_bytes: working memory of the distances to aim at, in bytes.

    Returns:
        The expanded queries, comparable with the same gallery. Norms and reliability, which
        belong to single images, are left out.

    Raises:
        ConfigError: if n or alpha is out of range, or fusions or metrics differ.
        ShapeError: if the sides differ in S or D.
        ProtocolError: if vectors are not of length 1, or distances are undefined.
    """
    if num_neighbours < 1 or alpha < 0:
        raise ConfigError(
            f"expansion: expected at least 1 neighbour and alpha >= 0, got {num_neighbours} and "
            f"{alpha}"
        )
    rows = distance_rows(query, gallery, chunk_bytes=chunk_bytes)  # checks both sides
    for name, side in (("query", query), ("gallery", gallery)):
        _check_lengths(name, side)
    trust, trust_gallery = _trust(query), _trust(gallery)  # (Q, S), (G, S)
    num_kept = min(num_neighbours, len(gallery))
    vectors, quality = np.empty_like(query.vectors), np.empty_like(query.quality)
    for chosen, block in rows:
        for position, row in zip(range(chosen.start, chosen.stop), block, strict=True):
            near = _nearest(row, num_kept)
            counts = _counts(row[near], alpha, query.metric)[:, None]  # (n, 1)
            weights = counts * trust_gallery[near]  # (n, S)
            total = trust[position] + weights.sum(axis=0)  # (S,)
            summed = np.einsum("ns,nsd->sd", weights, gallery.vectors[near])
            summed += trust[position][:, None] * query.vectors[position]
            vectors[position] = _unit(summed, query.vectors[position])
            quality[position] = total / (1 + counts.sum())
    return replace(query, vectors=vectors, quality=quality, norms=None, reliability=None)


def _nearest(row: Floats, num_kept: int) -> Positions:
    """Find the nearest of one row; of equal ones the first are kept."""
    near = np.flatnonzero(row <= np.partition(row, num_kept - 1)[num_kept - 1])
    return near[np.argsort(row[near], kind="stable")[:num_kept]]


def _counts(distances: Floats, alpha: float, metric: str) -> Floats:
    squared = distances if metric == "sqeuclidean" else distances**2
    similarity: Floats = np.clip(1 - squared / 2, 0, 1)
    return np.power(similarity, np.float32(alpha)) if alpha else np.ones_like(similarity)


def _trust(embedding: Embedding) -> Floats:
    if embedding.vectors.shape[1] == 1 or embedding.fusion not in _TRUSTING:
        return np.ones_like(embedding.quality)
    relative: Floats = embedding.quality / embedding.quality.max(axis=1, keepdims=True)
    return relative


def _unit(summed: NDArray[np.floating], query: Floats) -> NDArray[np.floating]:
    """Scale each stream to length 1; where nothing is trusted or all cancels, keep the query."""
    lengths = np.linalg.norm(summed, axis=1, keepdims=True)
    return np.where(lengths > 0, summed / np.where(lengths > 0, lengths, 1), query)


def _check_lengths(name: str, embedding: Embedding) -> None:
    lengths = np.linalg.norm(embedding.vectors, axis=2)
    if (np.abs(lengths - 1) > _UNIT_TOLERANCE).any():
        bad = int(np.flatnonzero((np.abs(lengths - 1) > _UNIT_TOLERANCE).any(axis=1))[0])
        raise ProtocolError(
            f"{name}: expansion averages directions, so expected vectors of length 1, got "
            f"{lengths[bad].tolist()} at image {bad}; normalise them (leave out --raw)"
        )
