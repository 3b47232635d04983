"""Distances between embeddings: one per stream, then fused into one number.

Letters: N images, Q queries, G gallery, S streams (0 = HR space, 1 = LR space), D embedding.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from resolute.core.config import unknown_name
from resolute.core.errors import ConfigError, ProtocolError, ShapeError
from resolute.core.types import Embedding, short_fingerprint

FUSIONS = ("hr", "lr", "mean", "weighted", "query_weighted", "constant", "fused")
METRICS = ("sqeuclidean", "euclidean")
_OF_TWO = ("hr", "lr", "constant")

CHUNK_BYTES = 2**27  # 128 MiB: enough rows for a fast matrix product at 80,000 gallery images

Floats = NDArray[np.float32]


def distance_rows(
    query: Embedding,
    gallery: Embedding,
    *,
    fusion: str | None = None,
    metric: str | None = None,
    chunk_bytes: int = CHUNK_BYTES,
) -> Iterator[tuple[slice, Floats]]:
    """Compute the distances of all queries to all gallery images, a few query rows at a time.

    With a = w_hr(q) w_hr(g) and b = w_lr(q) w_lr(g), the fusion ``weighted`` is
    (a d_hr + b d_lr) / (a + b) [assumed: mirrors FTWA eq. 7]. ``query_weighted`` takes
    a = w_hr(q), b = w_lr(q); ``mean`` a = b; ``constant`` a = c, b = 1 - c; ``hr`` and ``lr`` use
    one stream; ``fused`` is the distance of the single vectors of :func:`fused_vectors` [ours].
    Embeddings with one stream have one distance, whatever the fusion. With more than two streams
    ``weighted``, ``query_weighted`` and ``mean`` sum over all of them in the same way; ``hr``,
    ``lr`` and ``constant`` are for two.

    Args:
        query: embeddings of Q images.
        gallery: embeddings of G images, with the same S and D.
        fusion: one of ``FUSIONS``; None takes the embeddings' own.
        metric: one of ``METRICS``, per stream; None takes the embeddings' own.
        chunk_bytes: working memory to aim at, in bytes. It moves results by rounding only.

    Returns:
        Iterator over pairs of query positions and distances, shape (rows, G), float32, >= 0. The
        arrays are fresh: they may be kept or changed. Everything is checked before the first.

    Raises:
        ConfigError: if fusion or metric is unknown, left open where the two sides differ, or made
            for two spaces where there are more streams.
        ShapeError: if the sides differ in S or D.
        ProtocolError: if the sides are known to be of two models, vectors are not finite, quality
            is negative or not finite, or two images have no stream that both trust (a + b = 0).
    """
    if query.fingerprint and gallery.fingerprint and query.fingerprint != gallery.fingerprint:
        raise ProtocolError(
            f"distance: query of model {short_fingerprint(query.fingerprint)}, gallery of model "
            f"{short_fingerprint(gallery.fingerprint)}: their vectors cannot be compared; embed "
            "both with one"
        )
    fusion = _agreed("fusion", fusion, query.fusion, gallery.fusion, FUSIONS)
    metric = _agreed("metric", metric, query.metric, gallery.metric, METRICS)
    if query.vectors.shape[1:] != gallery.vectors.shape[1:] or query.vectors.shape[1] == 0:
        raise ShapeError(
            "distance: expected query and gallery vectors (N, S, D) with equal S of at least 1 and "
            f"equal D, got {query.vectors.shape} and {gallery.vectors.shape}"
        )
    if query.vectors.shape[1] > 2 and fusion in _OF_TWO:
        raise ConfigError(
            f"fusion {fusion}: needs a HR and a LR space, got {query.vectors.shape[1]} streams; "
            "use weighted, query_weighted or mean"
        )
    _check_values("query", query)
    _check_values("gallery", gallery)
    return _rows(_plan(query, gallery, fusion), metric, chunk_bytes)


def distance_matrix(
    query: Embedding,
    gallery: Embedding,
    *,
    fusion: str | None = None,
    metric: str | None = None,
) -> Floats:
    """Compute all distances at once; arguments and errors as for :func:`distance_rows`.

    Args:
        query: embeddings of Q images.
        gallery: embeddings of G images.
        fusion: one of ``FUSIONS``; None takes the embeddings' own.
        metric: one of ``METRICS``; None takes the embeddings' own.

    Returns:
        Distances, shape (Q, G), float32, >= 0.

    Examples:
        >>> unit = np.array([[[1, 0], [1, 0]], [[0, 1], [1, 0]]], dtype=np.float32)
        >>> e = Embedding(vectors=unit, quality=np.ones((2, 2), dtype=np.float32))
        >>> distance_matrix(e, e).tolist()
        [[0.0, 1.0], [1.0, 0.0]]
    """
    matrix = np.empty((len(query), len(gallery)), dtype=np.float32)
    for rows, block in distance_rows(query, gallery, fusion=fusion, metric=metric):
        matrix[rows] = block
    return matrix


def fused_vectors(embedding: Embedding) -> Floats:
    """Join the streams of each image into one vector u = [w_hr v_hr; w_lr v_lr] / n.

    With n = sqrt(w_hr^2 + w_lr^2) and normalised streams, u has length 1. The cosine of two such
    vectors is the weighted similarity times the cosine of the angle between the two pairs of
    weights: a single vector for indexes and trackers [ours].

    Args:
        embedding: embeddings of N images.

    Returns:
        Vectors, shape (N, S * D), float32.

    Raises:
        ProtocolError: if values are not finite, quality is negative, or zero in every stream.
    """
    _check_values("embedding", embedding)
    num_images, num_streams, dim = embedding.vectors.shape
    if num_streams == 1:
        return embedding.vectors[:, 0]
    weights = _relative_quality("embedding", embedding)  # (N, S)
    weights /= np.linalg.norm(weights, axis=1, keepdims=True)
    return (embedding.vectors * weights[:, :, None]).reshape(num_images, num_streams * dim)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """What one block of rows needs: its streams and how they join.

    Attributes:
        query: vectors per stream, each (Q, D).
        gallery: vectors per stream, each (G, D).
        query_weights: weight of every stream per query, (Q, S); unused with one stream.
        gallery_weights: the same per gallery image, (G, S); None when only the query decides.
    """

    query: tuple[Floats, ...]
    gallery: tuple[Floats, ...]
    query_weights: Floats
    gallery_weights: Floats | None = None


def _plan(query: Embedding, gallery: Embedding, fusion: str) -> _Plan:
    no_weights = np.empty((0, 2), dtype=np.float32)
    if query.vectors.shape[1] == 1 or fusion in ("hr", "lr"):
        stream = -1 if fusion == "lr" else 0  # with S = 1 both are the one stream
        return _Plan(
            query=(query.vectors[:, stream],),
            gallery=(gallery.vectors[:, stream],),
            query_weights=no_weights,
        )
    if fusion == "fused":
        return _Plan(
            query=(fused_vectors(query),),
            gallery=(fused_vectors(gallery),),
            query_weights=no_weights,
        )
    query_weights, gallery_weights = _weights(query, gallery, fusion)
    streams = range(query.vectors.shape[1])
    return _Plan(
        query=tuple(query.vectors[:, s] for s in streams),
        gallery=tuple(gallery.vectors[:, s] for s in streams),
        query_weights=query_weights,
        gallery_weights=gallery_weights,
    )


def _weights(query: Embedding, gallery: Embedding, fusion: str) -> tuple[Floats, Floats | None]:
    if fusion == "weighted":
        query_weights = _relative_quality("query", query)
        gallery_weights = _relative_quality("gallery", gallery)
        _check_common_trust(query_weights, gallery_weights)
        return query_weights, gallery_weights
    if fusion == "query_weighted":
        return _relative_quality("query", query), None
    num_streams = query.vectors.shape[1]
    share = 1 / num_streams
    if fusion == "constant":
        share = query.constant
        if share != gallery.constant or not 0 <= share <= 1:
            raise ConfigError(
                "constant: expected one share of the hr stream in 0..1, got "
                f"{query.constant} (query) and {gallery.constant} (gallery)"
            )
    if num_streams > 2:
        return np.full((len(query), num_streams), share, dtype=np.float32), None
    return np.tile(np.array([share, 1 - share], dtype=np.float32), (len(query), 1)), None


def _rows(plan: _Plan, metric: str, chunk_bytes: int) -> Iterator[tuple[slice, Floats]]:
    num_query, num_gallery = len(plan.query[0]), len(plan.gallery[0])
    num_streams = len(plan.query)
    # One per stream, and where there are two shares and their divisor; more streams take turns.
    num_buffers = 2 * min(num_streams, 2)
    step = max(1, chunk_bytes // max(1, 4 * num_gallery * num_buffers))
    scratch = np.empty((num_buffers - 1, min(step, num_query), num_gallery), dtype=np.float32)
    norms = [np.einsum("nd,nd->n", v, v) for v in plan.gallery]
    for start in range(0, num_query, step):
        rows = slice(start, min(start + step, num_query))
        spare = scratch[:, : rows.stop - rows.start]  # (buffers, rows, G)
        block = np.empty_like(spare[0])
        if num_streams > 2:
            _many_streams(plan, rows, norms, metric, block, spare)
        else:
            _stream_block(plan.query[0][rows], plan.gallery[0], norms[0], metric, block)
        if num_streams == 2:
            _stream_block(plan.query[1][rows], plan.gallery[1], norms[1], metric, spare[0])
            share = _share_of_hr(plan.query_weights[rows], plan.gallery_weights, spare[1:])
            block -= spare[0]
            block *= share
            block += spare[0]  # d_lr + share (d_hr - d_lr)
        yield rows, block


def _many_streams(
    plan: _Plan, rows: slice, norms: list[Floats], metric: str, out: Floats, spare: Floats
) -> None:
    """Join more than two streams: the sum of weighted distances over that of the weights."""
    of_query, of_gallery = plan.query_weights[rows], plan.gallery_weights
    out.fill(0)
    for stream, vectors in enumerate(plan.query):
        distances = spare[0]
        _stream_block(vectors[rows], plan.gallery[stream], norms[stream], metric, distances)
        distances *= of_query[:, stream : stream + 1]
        if of_gallery is not None:
            distances *= of_gallery[:, stream]
        out += distances
    if of_gallery is None:
        out /= of_query.sum(axis=1, keepdims=True)
    else:
        out /= np.matmul(of_query, of_gallery.T, out=spare[1])


def _stream_block(
    query: Floats, gallery: Floats, gallery_norms: Floats, metric: str, out: Floats
) -> None:
    np.matmul(-2 * query, gallery.T, out=out)  # (rows, G)
    out += gallery_norms
    out += np.einsum("nd,nd->n", query, query)[:, None]
    np.maximum(out, 0, out=out)  # rounding can leave a little less than nothing
    if metric == "euclidean":
        np.sqrt(out, out=out)


def _share_of_hr(query_weights: Floats, gallery_weights: Floats | None, spare: Floats) -> Floats:
    if gallery_weights is None:
        total: Floats = query_weights.sum(axis=1, keepdims=True)
        return np.divide(query_weights[:, :1], total)  # (rows, 1)
    share: Floats = spare[0]
    divisor: Floats = spare[1]
    np.multiply(query_weights[:, :1], gallery_weights[:, 0], out=share)  # a
    np.matmul(query_weights, gallery_weights.T, out=divisor)  # a + b
    share /= divisor
    return share  # (rows, G)


def _agreed(
    kind: str, asked: str | None, of_query: str, of_gallery: str, known: tuple[str, ...]
) -> str:
    if asked is None and of_query != of_gallery:
        raise ConfigError(
            f"{kind}: query says {of_query!r}, gallery says {of_gallery!r}: name the one to use"
        )
    name = of_query if asked is None else asked
    if name not in known:
        raise ConfigError(unknown_name(kind, name, list(known)))
    return name


def _check_values(name: str, embedding: Embedding) -> None:
    vectors, quality = embedding.vectors, embedding.quality
    if not np.isfinite(vectors).all():
        bad = np.flatnonzero(~np.isfinite(vectors).all(axis=(1, 2)))
        raise ProtocolError(f"{name}: {len(bad)} vectors are not finite, first at image {bad[0]}")
    if not (np.isfinite(quality) & (quality >= 0)).all():
        bad = np.flatnonzero(~(np.isfinite(quality) & (quality >= 0)).all(axis=1))
        raise ProtocolError(
            f"{name}: expected finite quality >= 0, got {quality[bad[0]].tolist()} at image "
            f"{bad[0]} ({len(bad)} such images)"
        )


def _relative_quality(name: str, embedding: Embedding) -> Floats:
    # Only the ratio within an image means anything; the largest becomes 1 so that no product of
    # two tiny weights underflows.
    quality = embedding.quality.astype(np.float64)
    largest = quality.max(axis=1, keepdims=True)
    if not largest.all():
        bad = np.flatnonzero(largest[:, 0] == 0)
        raise ProtocolError(
            f"{name}: image {bad[0]} has quality 0 in every stream ({len(bad)} such images), its "
            "weighted distance is undefined; use the fusion 'mean' or a quality floor above 0"
        )
    relative: Floats = (quality / largest).astype(np.float32)
    return relative


def _check_common_trust(query_weights: Floats, gallery_weights: Floats) -> None:
    if query_weights.shape[1] > 2:
        # Few patterns of trusted streams stand for many images.
        of_query, first_query = np.unique(query_weights > 0, axis=0, return_index=True)
        of_gallery, first_gallery = np.unique(gallery_weights > 0, axis=0, return_index=True)
        apart = np.argwhere(~(of_query[:, None] & of_gallery).any(axis=2))
        if len(apart):
            raise ProtocolError(
                f"query image {first_query[apart[0, 0]]} and gallery image "
                f"{first_gallery[apart[0, 1]]} trust no stream in common: their weighted distance "
                "is undefined; use the fusion 'mean' or a quality floor above 0"
            )
        return
    for stream, name in enumerate(("hr", "lr")):
        queries = np.flatnonzero(query_weights[:, 1 - stream] == 0)
        others = np.flatnonzero(gallery_weights[:, stream] == 0)
        if len(queries) and len(others):
            raise ProtocolError(
                f"query image {queries[0]} trusts only its {name} stream and gallery image "
                f"{others[0]} only the other: their weighted distance is undefined (a + b = 0); "
                "use the fusion 'mean' or a quality floor above 0"
            )
