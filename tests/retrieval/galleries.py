"""Drawn embeddings, a search by the definition, and small galleries."""

import numpy as np
from core.test_distance import literal

from resolute.core.types import Embedding
from resolute.retrieval.gallery import Gallery
from resolute.retrieval.types import Item, VectorSpace


def draw(seed, num, *, streams=2, dim=6, unit=True, repeats=1, **settings):
    """Embeddings of N images; each vector stands ``repeats`` times in a row: ties."""
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(num, streams, dim))
    vectors = np.repeat(vectors, repeats, axis=0)[:num]
    if unit:
        vectors /= np.linalg.norm(vectors, axis=2, keepdims=True)
    quality = np.repeat(rng.uniform(0.05, 1, (num, streams)), repeats, axis=0)[:num]
    return Embedding(
        vectors=vectors.astype(np.float32),
        quality=quality.astype(np.float32),
        native_sizes=rng.integers(20, 200, (num, 2)),
        reliability=rng.uniform(0, 1, num).astype(np.float32),
        **settings,
    )


def items(num, *, start=0, cameras=3, **more):
    return [
        Item(key=f"k{i:04d}", camera=f"c{i % cameras}", time=float(i), **more)
        for i in range(start, start + num)
    ]


def filled(folder, embedding, **settings):
    gallery = Gallery.create(
        folder, space=VectorSpace.of(embedding, fingerprint="model"), **settings
    )
    gallery.add(items(len(embedding)), embedding)
    return gallery


def nearest(query, gallery, k, passing=None):
    """Positions and distances per query, nearest first, ties by position, from loops over pairs."""
    distances = literal(query, gallery, query.fusion, query.metric, query.constant)
    if passing is not None:
        distances[:, ~passing] = np.inf
    order = np.argsort(distances, axis=1, kind="stable")[:, :k]
    return [
        [(int(j), distances[i, j]) for j in order[i] if np.isfinite(distances[i, j])]
        for i in range(len(query))
    ]


def same(answer, expected, keys=None):
    found = [hit.key for hit in answer.hits]
    assert found == [f"k{j:04d}" if keys is None else keys[j] for j, _ in expected]
    np.testing.assert_allclose(
        [hit.distance for hit in answer.hits], [d for _, d in expected], rtol=1e-9, atol=1e-12
    )
