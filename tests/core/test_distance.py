"""Distances against a loop over pairs written from the formulas."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resolute.core.distance import (
    FUSIONS,
    METRICS,
    distance_matrix,
    distance_rows,
    fused_vectors,
)
from resolute.core.errors import ConfigError, ProtocolError, ShapeError
from resolute.core.types import Embedding


def draw(seed, num, *, streams=2, dim=5, unit=True, **settings):
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(num, streams, dim)).astype(np.float32)
    if unit:
        vectors /= np.linalg.norm(vectors, axis=2, keepdims=True)
    quality = rng.uniform(0.05, 1, (num, streams)).astype(np.float32)
    return Embedding(vectors=vectors, quality=quality, **settings)


def literal(query, gallery, fusion, metric, constant=0.5):
    out = np.empty((len(query), len(gallery)))
    for i in range(len(query)):
        for j in range(len(gallery)):
            out[i, j] = literal_pair(query, i, gallery, j, fusion, metric, constant)
    return out


def literal_pair(query, i, gallery, j, fusion, metric, constant):
    def apart(x, y):
        squared = sum((float(a) - float(b)) ** 2 for a, b in zip(x, y, strict=True))
        return squared if metric == "sqeuclidean" else math.sqrt(squared)

    x, y = query.vectors[i], gallery.vectors[j]
    if len(x) == 1:
        return apart(x[0], y[0])
    (qh, ql), (gh, gl) = query.quality[i].tolist(), gallery.quality[j].tolist()
    if fusion == "fused":
        return apart(
            [qh * float(v) / math.hypot(qh, ql) for v in x[0]]
            + [ql * float(v) / math.hypot(qh, ql) for v in x[1]],
            [gh * float(v) / math.hypot(gh, gl) for v in y[0]]
            + [gl * float(v) / math.hypot(gh, gl) for v in y[1]],
        )
    a, b = {
        "hr": (1, 0),
        "lr": (0, 1),
        "mean": (1, 1),
        "weighted": (qh * gh, ql * gl),
        "query_weighted": (qh, ql),
        "constant": (constant, 1 - constant),
    }[fusion]
    return (a * apart(x[0], y[0]) + b * apart(x[1], y[1])) / (a + b)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("unit", [True, False])
def test_agrees_with_the_formula(fusion, metric, unit):
    query = draw(1, 7, unit=unit, constant=0.3)
    gallery = draw(2, 11, unit=unit, constant=0.3)
    got = distance_matrix(query, gallery, fusion=fusion, metric=metric)
    assert got.dtype == np.float32
    np.testing.assert_allclose(
        got, literal(query, gallery, fusion, metric, 0.3), rtol=2e-5, atol=2e-5
    )


@pytest.mark.parametrize("fusion", FUSIONS)
def test_one_stream_has_one_distance(fusion):
    query, gallery = draw(1, 4, streams=1), draw(2, 6, streams=1)
    query = dataclasses.replace(query, quality=np.zeros_like(query.quality))  # without effect
    got = distance_matrix(query, gallery, fusion=fusion)
    np.testing.assert_allclose(got, literal(query, gallery, "hr", "sqeuclidean"), atol=1e-5)


def test_own_fusion_metric_and_constant_are_used():
    query = draw(1, 4, fusion="constant", constant=0.8, metric="euclidean")
    gallery = draw(2, 6, fusion="constant", constant=0.8, metric="euclidean")
    got = distance_matrix(query, gallery)
    np.testing.assert_allclose(
        got, literal(query, gallery, "constant", "euclidean", 0.8), rtol=1e-5
    )


@settings(max_examples=30, deadline=None)
@given(
    num_query=st.integers(1, 9),
    num_gallery=st.integers(1, 9),
    chunk_bytes=st.integers(1, 700),
    fusion=st.sampled_from(FUSIONS),
)
def test_chunks_cover_every_row_once(num_query, num_gallery, chunk_bytes, fusion):
    query, gallery = draw(3, num_query), draw(4, num_gallery)
    whole = distance_matrix(query, gallery, fusion=fusion)
    at = 0
    blocks = list(distance_rows(query, gallery, fusion=fusion, chunk_bytes=chunk_bytes))
    for rows, block in blocks:  # kept until here: no block may share memory with the next
        assert rows.start == at
        np.testing.assert_allclose(block, whole[rows], rtol=1e-5, atol=1e-6)
        at = rows.stop
    assert at == num_query
    if chunk_bytes < 16 * num_gallery:
        assert len(blocks) == num_query


def test_only_the_ratio_of_qualities_counts():
    query, gallery = draw(1, 5), draw(2, 8)
    scale = np.array([[1e-30], [1e-3], [1], [50], [1e20]], dtype=np.float32)
    scaled = dataclasses.replace(query, quality=query.quality * scale)
    for fusion in ("weighted", "query_weighted", "fused"):
        np.testing.assert_allclose(
            distance_matrix(scaled, gallery, fusion=fusion),
            distance_matrix(query, gallery, fusion=fusion),
            rtol=1e-5,
            atol=1e-6,
        )


def test_weighted_is_symmetric_and_permutes_with_the_gallery():
    query, gallery = draw(1, 5), draw(2, 8)
    there = distance_matrix(query, gallery, fusion="weighted")
    np.testing.assert_allclose(
        distance_matrix(gallery, query, fusion="weighted").T, there, atol=1e-6
    )
    order = np.random.default_rng(0).permutation(8)
    np.testing.assert_allclose(
        distance_matrix(query, gallery.take(order), fusion="weighted"), there[:, order], atol=1e-6
    )


def test_a_stream_without_trust_is_ignored():
    query, gallery = draw(1, 3), draw(2, 4)
    query = dataclasses.replace(query, quality=np.array([[1, 0]] * 3, dtype=np.float32))
    np.testing.assert_allclose(
        distance_matrix(query, gallery, fusion="weighted"),
        distance_matrix(query, gallery, fusion="hr"),
        atol=1e-6,
    )


def test_same_image_is_at_distance_zero_and_never_below():
    embedding = draw(1, 40, dim=64)
    for fusion in FUSIONS:
        distances = distance_matrix(embedding, embedding, fusion=fusion)
        assert (distances >= 0).all()
        assert np.diagonal(distances).max() < 1e-5


def test_fused_vectors_follow_the_cosine_identity():
    # cos(u_q, u_g) = rho s, rho = (a + b) / (n_q n_g), s = weighted mean cosine
    query, gallery = draw(1, 5), draw(2, 8)
    u, v = fused_vectors(query), fused_vectors(gallery)
    np.testing.assert_allclose(np.linalg.norm(u, axis=1), 1, rtol=1e-6)
    weighted = distance_matrix(query, gallery, fusion="weighted")
    n_q = np.linalg.norm(query.quality, axis=1)[:, None]
    n_g = np.linalg.norm(gallery.quality, axis=1)
    rho = query.quality @ gallery.quality.T / (n_q * n_g)
    np.testing.assert_allclose(u @ v.T, rho * (1 - weighted / 2), atol=1e-6)


def test_inputs_are_not_changed():
    query, gallery = draw(1, 5), draw(2, 8)
    copies = [x.copy() for e in (query, gallery) for x in (e.vectors, e.quality)]
    for fusion in FUSIONS:
        distance_matrix(query, gallery, fusion=fusion)
    now = [x for e in (query, gallery) for x in (e.vectors, e.quality)]
    for before, after in zip(copies, now, strict=True):
        np.testing.assert_array_equal(before, after)


def test_errors_come_before_the_first_block():
    query, gallery = draw(1, 3), draw(2, 4)
    with pytest.raises(ConfigError, match="unknown fusion 'weigted': did you mean 'weighted'"):
        distance_rows(query, gallery, fusion="weigted")
    with pytest.raises(ConfigError, match="unknown metric 'cosine'"):
        distance_rows(query, gallery, metric="cosine")
    with pytest.raises(ConfigError, match="fusion: query says 'mean', gallery says 'weighted'"):
        distance_rows(draw(1, 3, fusion="mean"), gallery)
    with pytest.raises(ConfigError, match=r"0\.2 \(query\) and 0\.4 \(gallery\)"):
        distance_rows(draw(1, 3, constant=0.2), draw(2, 3, constant=0.4), fusion="constant")
    with pytest.raises(ConfigError, match=r"in 0\.\.1"):
        distance_rows(draw(1, 3, constant=2), draw(2, 3, constant=2), fusion="constant")
    with pytest.raises(ShapeError, match=r"\(3, 2, 5\) and \(4, 2, 6\)"):
        distance_rows(query, draw(2, 4, dim=6))
    with pytest.raises(ProtocolError, match="query of model 'a', gallery of model 'b'"):
        distance_rows(draw(1, 3, fingerprint="a"), draw(2, 4, fingerprint="b"))
    names = ("osnet_x1_0_market1501", "osnet_x1_0_msmt17")  # one beginning
    with pytest.raises(ProtocolError, match=r"'osnet_x1_0_market1501', .* 'osnet_x1_0_msmt17'"):
        distance_rows(*(draw(seed, 3, fingerprint=name) for seed, name in enumerate(names)))
    assert distance_rows(draw(1, 3, fingerprint="a"), gallery), "of an unknown model: vouched for"
    with pytest.raises(ShapeError, match="equal S of at least 1"):
        distance_rows(draw(1, 3, streams=3), draw(2, 4))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_vectors_must_be_finite(bad):
    query = draw(1, 3)
    query.vectors[2, 1, 0] = bad
    with pytest.raises(ProtocolError, match="gallery: 1 vectors are not finite, first at image 2"):
        distance_rows(draw(2, 4), query, fusion="hr")


@pytest.mark.parametrize("bad", [-0.1, np.nan, np.inf])
def test_quality_must_be_a_weight(bad):
    query = draw(1, 3)
    query.quality[1, 0] = bad
    with pytest.raises(ProtocolError, match=r"query: expected finite quality >= 0, got .* image 1"):
        distance_rows(query, draw(2, 4), fusion="mean")


def test_images_without_a_common_stream_are_named():
    query, gallery = draw(1, 3), draw(2, 4)
    query.quality[2] = [0.7, 0]
    gallery.quality[1] = [0, 0.5]
    expected = "query image 2 trusts only its hr stream and gallery image 1 only the other"
    with pytest.raises(ProtocolError, match=expected):
        distance_rows(query, gallery, fusion="weighted")
    with pytest.raises(ProtocolError, match="query image 1 trusts only its lr stream"):
        distance_rows(gallery, query, fusion="weighted")
    assert np.isfinite(distance_matrix(query, gallery, fusion="query_weighted")).all()
    assert distance_matrix(query, gallery, fusion="fused")[2, 1] == pytest.approx(2)


@pytest.mark.parametrize("fusion", ["weighted", "query_weighted", "fused"])
def test_an_image_without_any_trust_is_named(fusion):
    query = draw(1, 3)
    query.quality[1] = 0
    with pytest.raises(ProtocolError, match="image 1 has quality 0 in every stream"):
        distance_rows(query, draw(2, 4), fusion=fusion)
    assert np.isfinite(distance_matrix(query, draw(2, 4), fusion="mean")).all()


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("fusion", ["weighted", "query_weighted", "mean"])
@pytest.mark.parametrize("chunk_bytes", [1, 2**27])
def test_more_than_two_streams_by_loop(fusion, metric, chunk_bytes):
    query, gallery = draw(1, 4, streams=3, unit=False), draw(2, 6, streams=3, unit=False)
    blocks = distance_rows(query, gallery, fusion=fusion, metric=metric, chunk_bytes=chunk_bytes)
    found = np.concatenate([block for _, block in blocks])
    for i in range(4):
        for j in range(6):
            total = weights = 0.0
            for s in range(3):
                apart = math.dist(query.vectors[i, s].tolist(), gallery.vectors[j, s].tolist())
                weight = {
                    "weighted": float(query.quality[i, s]) * float(gallery.quality[j, s]),
                    "query_weighted": float(query.quality[i, s]),
                    "mean": 1.0,
                }[fusion]
                total += weight * (apart**2 if metric == "sqeuclidean" else apart)
                weights += weight
            assert found[i, j] == pytest.approx(total / weights, rel=1e-4)


def test_more_than_two_streams_have_no_hr_space():
    three = draw(1, 2, streams=3)
    for fusion in ("hr", "lr", "constant"):
        with pytest.raises(ConfigError, match="needs a HR and a LR space, got 3 streams"):
            distance_matrix(three, three, fusion=fusion)


def test_more_than_two_streams_need_one_that_both_trust():
    query, gallery = draw(1, 2, streams=3), draw(2, 2, streams=3)
    query.quality[1] = [1, 0, 1]
    gallery.quality[0] = [0, 1, 0]
    with pytest.raises(ProtocolError, match="query image 1 and gallery image 0 trust no stream"):
        distance_matrix(query, gallery)
    assert np.isfinite(distance_matrix(query, gallery, fusion="mean")).all()
