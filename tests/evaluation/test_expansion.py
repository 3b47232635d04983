"""Query expansion against a loop over queries, neighbours and streams."""

import numpy as np
import pytest

from resolute.core.distance import FUSIONS, METRICS, distance_matrix
from resolute.core.errors import ConfigError, ProtocolError, ShapeError
from resolute.core.types import Embedding
from resolute.evaluation.expansion import expand_queries


def draw(seed, num, *, streams=2, dim=5, **settings):
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(num, streams, dim))
    vectors /= np.linalg.norm(vectors, axis=2, keepdims=True)
    quality = rng.uniform(0.1, 1, (num, streams)).astype(np.float32)
    return Embedding(vectors=vectors.astype(np.float32), quality=quality, **settings)


def literal(query, gallery, n, alpha):
    """The definition in words, one number after the other."""
    distances = distance_matrix(query, gallery)
    weighs = query.fusion in ("weighted", "query_weighted", "fused")
    vectors, qualities = [], []
    for q in range(len(query)):
        near = sorted(range(len(gallery)), key=lambda g: (distances[q, g], g))[:n]
        streams, quality = [], []
        for s in range(query.vectors.shape[1]):
            own = query.quality[q, s] / max(query.quality[q]) if weighs else 1
            summed, trusted, counted = own * query.vectors[q, s], own, 1
            for g in near:
                d = distances[q, g]
                similarity = max(0, 1 - (d if query.metric == "sqeuclidean" else d * d) / 2)
                count = similarity**alpha if alpha else 1
                trust = gallery.quality[g, s] / max(gallery.quality[g]) if weighs else 1
                summed = summed + count * trust * gallery.vectors[g, s]
                trusted, counted = trusted + count * trust, counted + count
            streams.append(summed / np.linalg.norm(summed))
            quality.append(trusted / counted)
        vectors.append(streams)
        qualities.append(quality)
    return np.array(vectors), np.array(qualities)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize(("n", "alpha"), [(1, 0.0), (3, 0.0), (4, 3.0)])
def test_agrees_with_the_literal_definition(fusion, metric, n, alpha):
    query, gallery = (draw(s, m, fusion=fusion, metric=metric) for s, m in ((1, 7), (2, 20)))
    got = expand_queries(query, gallery, num_neighbours=n, alpha=alpha)
    vectors, quality = literal(query, gallery, n, alpha)
    np.testing.assert_allclose(got.vectors, vectors, atol=1e-5)
    np.testing.assert_allclose(got.quality, quality, rtol=1e-5)
    assert (got.fusion, got.metric) == (fusion, metric)
    distance_matrix(got, gallery)  # still comparable


def test_one_stream_is_the_plain_average():
    query, gallery = draw(1, 4, streams=1), draw(2, 9, streams=1)
    got = expand_queries(query, gallery, num_neighbours=2)
    for q, row in enumerate(distance_matrix(query, gallery)):
        summed = query.vectors[q, 0] + gallery.vectors[np.argsort(row)[:2], 0].sum(axis=0)
        np.testing.assert_allclose(got.vectors[q, 0], summed / np.linalg.norm(summed), atol=1e-6)
    assert (got.quality == 1).all()


def test_a_neighbour_without_trust_in_a_stream_does_not_move_it():
    query, gallery = draw(1, 3), draw(2, 6)
    gallery.quality[:, 1] = 1e-30
    got = expand_queries(query, gallery, num_neighbours=3)
    np.testing.assert_allclose(got.vectors[:, 1], query.vectors[:, 1], atol=1e-6)
    assert np.abs(got.vectors[:, 0] - query.vectors[:, 0]).max() > 0.1


def test_a_common_factor_of_the_quality_changes_nothing():
    query, gallery = draw(1, 3), draw(2, 6)
    scaled = Embedding(vectors=gallery.vectors, quality=gallery.quality * np.float32(0.25))
    one, other = (expand_queries(query, g, num_neighbours=2) for g in (gallery, scaled))
    np.testing.assert_allclose(one.vectors, other.vectors, atol=1e-6)
    np.testing.assert_allclose(one.quality, other.quality, rtol=1e-5)


def test_large_alpha_leaves_the_query_alone():
    query, gallery = draw(1, 5), draw(2, 9)
    got = expand_queries(query, gallery, num_neighbours=3, alpha=500)
    np.testing.assert_allclose(got.vectors, query.vectors, atol=1e-4)


def test_small_galleries_and_ties():
    query, gallery = draw(1, 2), draw(2, 2)
    everything = expand_queries(query, gallery, num_neighbours=9)
    np.testing.assert_allclose(everything.vectors, literal(query, gallery, 2, 0)[0], atol=1e-5)
    plane = np.array([[[1, 0]], [[0.6, 0.8]], [[0.6, -0.8]]], dtype=np.float32)
    mirrored = Embedding(vectors=plane[1:], quality=np.ones((2, 1), dtype=np.float32))
    one = Embedding(vectors=plane[:1], quality=np.ones((1, 1), dtype=np.float32))
    got = expand_queries(one, mirrored, num_neighbours=1)  # both are as near: the first counts
    np.testing.assert_allclose(got.vectors[0, 0], np.array([2, 1]) / np.sqrt(5), atol=1e-6)


def test_opposite_vectors_keep_the_query():
    query = draw(1, 1, streams=1)
    gallery = Embedding(vectors=-query.vectors, quality=np.ones((1, 1), dtype=np.float32))
    got = expand_queries(query, gallery, num_neighbours=1)
    np.testing.assert_array_equal(got.vectors, query.vectors)


def test_what_belongs_to_single_images_is_left_out():
    query = draw(1, 3)
    whole = Embedding(
        vectors=query.vectors,
        quality=query.quality,
        norms=query.quality,
        native_sizes=np.ones((3, 2), dtype=np.int64),
        reliability=np.ones(3, dtype=np.float32),
    )
    got = expand_queries(whole, draw(2, 5), num_neighbours=2)
    assert (got.norms, got.reliability) == (None, None)
    assert got.native_sizes is whole.native_sizes
    np.testing.assert_array_equal(whole.vectors, draw(1, 3).vectors)  # not changed in place


def test_mistakes_are_refused():
    query, gallery = draw(1, 3), draw(2, 5)
    with pytest.raises(ConfigError, match="at least 1 neighbour and alpha >= 0, got 0 and 0"):
        expand_queries(query, gallery, num_neighbours=0)
    with pytest.raises(ConfigError, match="got 2 and -1"):
        expand_queries(query, gallery, num_neighbours=2, alpha=-1)
    with pytest.raises(ConfigError, match="fusion: query says"):
        expand_queries(query, draw(2, 5, fusion="hr"), num_neighbours=2)
    with pytest.raises(ShapeError, match="equal D"):
        expand_queries(query, draw(2, 5, dim=4), num_neighbours=2)
    raw = Embedding(vectors=2 * gallery.vectors, quality=gallery.quality)
    with pytest.raises(ProtocolError, match=r"gallery: expansion averages directions.*--raw"):
        expand_queries(query, raw, num_neighbours=2)
