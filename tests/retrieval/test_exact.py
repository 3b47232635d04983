"""Exact search against loops over pairs in float64."""

import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from retrieval.galleries import draw, filled, nearest, same

import resolute.retrieval.exact as exact_module
from resolute.core.distance import FUSIONS, METRICS
from resolute.core.errors import ProtocolError
from resolute.retrieval.exact import search
from resolute.retrieval.scores import Scorer, Stretch
from resolute.retrieval.types import VectorSpace, Where


def stretch(embedding, first=0):
    return Stretch(
        streams=tuple(
            np.ascontiguousarray(embedding.vectors[:, s]) for s in range(embedding.vectors.shape[1])
        ),
        quality=embedding.quality,
        squares=(embedding.vectors.astype(np.float64) ** 2).sum(axis=2),
        first=first,
    )


def positions(found):
    return [one.positions.tolist() for one in found]


def check(query, gallery, k, *, passing=None, cuts=()):
    """Search the gallery cut into stretches; compare with the definition."""
    bounds = [0, *sorted(cuts), len(gallery)]
    parts = []
    for start, stop in itertools.pairwise(bounds):
        if stop > start:
            mask = None if passing is None else passing[start:stop]
            parts.append((stretch(gallery.take(slice(start, stop)), start), mask))
    space = VectorSpace.of(query, fingerprint="")
    expected = nearest(query, gallery, k, passing)
    every = [dict(row) for row in nearest(query, gallery, len(gallery), passing)]
    answers = search(query, parts, space=space, k=k)
    for one, want, distances in zip(answers, expected, every, strict=True):
        for found, (position, distance) in zip(one.positions.tolist(), want, strict=True):
            # Sums in another order may swap what rounding alone tells apart, never equal vectors.
            if found != position:
                assert not np.array_equal(gallery.vectors[found], gallery.vectors[position])
                assert distances[found] == pytest.approx(distance, rel=1e-12, abs=1e-14)
        np.testing.assert_allclose(
            one.pairs.distances, [d for _, d in want], rtol=1e-12, atol=1e-14
        )


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize(("streams", "unit"), [(1, True), (2, True), (2, False)])
def test_finds_what_the_definition_finds(fusion, metric, streams, unit):
    kind = {"streams": streams, "unit": unit, "fusion": fusion, "metric": metric, "constant": 0.3}
    gallery = draw(2, 150, repeats=3, **kind)
    query = draw(1, 4, **kind)
    check(query, gallery, 9, cuts=(40, 41, 100))
    check(query.take(slice(1)), gallery, 9)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    num=st.integers(1, 60),
    num_query=st.integers(1, 4),
    k=st.integers(1, 70),
    share=st.sampled_from([0.0, 0.05, 0.5, 0.95, 1.0]),
    scale=st.sampled_from([1e-12, 1.0, 1e6]),
    spread=st.sampled_from([0, 1, 6]),
    fusion=st.sampled_from(FUSIONS),
    metric=st.sampled_from(METRICS),
    step=st.integers(1, 50),
)
def test_any_lengths_filters_blocks_and_ties(
    seed, num, num_query, k, share, scale, spread, fusion, metric, step
):
    rng = np.random.default_rng(seed)
    gallery = draw(seed, num, dim=4, unit=spread == 0, repeats=2, fusion=fusion, metric=metric)
    query = draw(seed + 1, num_query, dim=4, fusion=fusion, metric=metric)
    lengths = scale * 10.0 ** rng.uniform(-spread, spread, (num, 2, 1))
    gallery = dataclasses.replace(gallery, vectors=(gallery.vectors * lengths).astype(np.float32))
    passing = rng.uniform(size=num) < share
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exact_module, "_MOST_ROWS", step)
        patch.setattr(exact_module, "_MOST_PAIRS", 5)
        patch.setattr(exact_module, "_MOST_QUERIES", 3)
        check(query, gallery, k, passing=passing, cuts=(num // 3,))


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    fusion=st.sampled_from(FUSIONS),
    metric=st.sampled_from(METRICS),
    dim=st.sampled_from([1, 3, 64, 700]),
    spread=st.sampled_from([0, 3]),
)
def test_bounds_are_below_the_distance_and_near_it(seed, fusion, metric, dim, spread):
    gallery = draw(seed, 40, dim=dim, fusion=fusion, metric=metric)
    # Half of the queries stand in the gallery: there cancellation is worst.
    query = gallery.take(slice(20))
    lengths = 10.0 ** np.random.default_rng(seed).uniform(-spread, spread, (40, 2, 1))
    gallery = dataclasses.replace(gallery, vectors=(gallery.vectors * lengths).astype(np.float32))
    space = VectorSpace.of(query, fingerprint="")
    scorer, part = Scorer(query, space), stretch(gallery)
    out = np.empty((scorer.num_buffers, 20, 40), dtype=np.float32)
    bounds, offset, slack = scorer.bounds(part, part.streams, slice(0, 40), out)
    pairs = np.array(np.meshgrid(np.arange(20), np.arange(40), indexing="ij")).reshape(2, -1)
    exact = scorer.exact(part, *pairs).distances.reshape(20, 40)
    for image in range(40):
        limits = scorer.limit(exact[:, image], offset, slack)
        assert (bounds[:, image] <= limits).all()
    if metric == "sqeuclidean" and not spread:
        beyond = scorer.limit(np.maximum(exact - 1e-3, -1).min(axis=1), offset, slack)
        assert (bounds.min(axis=1) > beyond).all()


def test_a_pair_has_the_same_bits_in_any_company():
    query, gallery = draw(1, 5, dim=33), draw(2, 400, dim=33)
    space = VectorSpace.of(query, fingerprint="")
    together = search(query, [(stretch(gallery), None)], space=space, k=400)
    for i in range(5):
        alone = search(query.take(slice(i, i + 1)), [(stretch(gallery), None)], space=space, k=7)
        assert positions(alone) == [together[i].positions[:7].tolist()]
        np.testing.assert_array_equal(alone[0].pairs.distances, together[i].pairs.distances[:7])


def test_only_few_pairs_are_rescored():
    query, gallery = draw(1, 3, dim=32), draw(2, 20_000, dim=32)
    space = VectorSpace.of(query, fingerprint="")
    for one in search(query, [(stretch(gallery), None)], space=space, k=10):
        assert one.num_rescored < 200


def test_a_gallery_of_one_image_many_times_stays_in_order():
    one = draw(1, 1)
    gallery = one.take(np.zeros(5000, dtype=np.int64))
    found = search(
        draw(2, 2),
        [(stretch(gallery), None)],
        space=VectorSpace.of(one, fingerprint=""),
        k=6,
    )
    assert positions(found) == [list(range(6))] * 2


def test_scaling_the_weights_of_an_image_changes_nothing(tmp_path):
    gallery, query = draw(1, 40), draw(2, 3)
    factor = np.random.default_rng(0).uniform(0.01, 100, (40, 1)).astype(np.float32)
    scaled = dataclasses.replace(gallery, quality=gallery.quality * factor)
    answers = []
    for name, embedding in (("a", gallery), ("b", scaled)):
        with filled(tmp_path / name, embedding) as opened:
            answers.append(opened.search(query, k=40))
    for ours, theirs in zip(*answers, strict=True):
        assert [hit.key for hit in ours.hits] == [hit.key for hit in theirs.hits]


@pytest.mark.parametrize("weights", [(1e-30, 1e-38), (1e20, 1e-20), (0.0, 1e-3)])
def test_extreme_weights(weights):
    gallery, query = draw(1, 30), draw(2, 3)
    gallery.quality[::2] = weights
    check(query, gallery, 30)
    query.quality[1] = (0.5, 0.0)
    gallery.quality[::2, 0] = 0.25
    check(query, gallery, 30)


def test_images_without_a_common_stream_are_named_unless_filtered(tmp_path):
    gallery, query = draw(1, 30), draw(2, 3)
    gallery.quality[4] = (0, 1)
    query.quality[2] = (1, 0)
    with filled(tmp_path / "g", gallery) as opened:
        message = "query image 2 trusts only its hr stream and gallery image 4 only the other"
        with pytest.raises(ProtocolError, match=message):
            opened.search(query)
        assert opened.search(query, where=Where(camera="c0"))[2].num_compared == 10
        opened.delete(["k0004"])
        assert opened.search(query)[2].num_compared == 29
    mirrored = dataclasses.replace(gallery, quality=gallery.quality[:, ::-1].copy())
    query.quality[2] = (0, 1)
    with (
        filled(tmp_path / "h", mirrored) as opened,
        pytest.raises(ProtocolError, match="trusts only its lr stream"),
    ):
        opened.search(query)


def test_more_images_than_a_block(tmp_path):
    gallery, query = draw(1, 3000, dim=3, repeats=2), draw(2, 2, dim=3)
    with filled(tmp_path / "g", gallery) as opened:
        for answer, want in zip(
            opened.search(query, k=25), nearest(query, gallery, 25), strict=True
        ):
            same(answer, want)
            assert answer.exact
            assert answer.num_compared == 3000
