"""Re-ranking against its literal definition; what must not change it; what is refused."""

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from evaluation.literal_rerank import rerank as literal_rerank

from resolute.core.distance import FUSIONS, METRICS, distance_matrix
from resolute.core.errors import ConfigError, ProtocolError, ShapeError
from resolute.core.rng import Streams
from resolute.core.types import Embedding, Labels
from resolute.evaluation.protocol import PROTOCOLS
from resolute.evaluation.rerank import rerank_rows
from resolute.evaluation.scoring import evaluate


def people(seed, num, *, num_people=5, streams=2, dim=6, **settings):
    """Images that lie about their person, so that neighbourhoods mean something."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(num_people, streams, dim))
    vectors = centres[rng.integers(num_people, size=num)] + 0.6 * rng.normal(
        size=(num, streams, dim)
    )
    vectors /= np.linalg.norm(vectors, axis=2, keepdims=True)
    quality = rng.uniform(0.2, 1, (num, streams)).astype(np.float32)
    return Embedding(vectors=vectors.astype(np.float32), quality=quality, **settings)


def on_grid(seed, num, **settings):
    """Whole numbers: exact arithmetic, many ties and exact copies."""
    rng = np.random.default_rng(seed)
    vectors = rng.integers(0, 3, (num, 1, 3)).astype(np.float32)
    return Embedding(vectors=vectors, quality=np.ones((num, 1), dtype=np.float32), **settings)


def join(query, gallery):
    return Embedding.concatenate([query, gallery])


def reranked(query, gallery, **settings):
    blocks = list(rerank_rows(query, gallery, **settings))
    assert [rows.start for rows, _ in blocks] == [0, *[rows.stop for rows, _ in blocks[:-1]]]
    return np.concatenate([block for _, block in blocks])


def literal(query, gallery, k1=20, k2=6, share=0.3):
    everything = join(query, gallery)
    matrix = distance_matrix(everything, everything)
    np.fill_diagonal(matrix, 0)  # rounding leaves a little more, and a root makes much of it
    return literal_rerank(matrix, len(query), k1, k2, share)


@pytest.mark.parametrize(
    ("k1", "k2", "share"), [(20, 6, 0.3), (5, 1, 0.3), (7, 3, 0.0), (1, 2, 0.5), (3, 9, 1.0)]
)
def test_agrees_with_the_literal_definition(k1, k2, share):
    query, gallery = people(1, 9), people(2, 26)
    got = reranked(query, gallery, k1=k1, k2=k2, share=share)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, literal(query, gallery, k1, k2, share), atol=2e-6)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("fusion", FUSIONS)
def test_takes_any_distance(fusion, metric):
    query = people(3, 6, fusion=fusion, metric=metric, constant=0.3)
    gallery = people(4, 20, fusion=fusion, metric=metric, constant=0.3)
    got = reranked(query, gallery, k1=4, k2=2)
    np.testing.assert_allclose(got, literal(query, gallery, 4, 2), atol=2e-6)


@pytest.mark.parametrize("seed", range(4))
def test_ties_and_copies_rank_by_position(seed):
    query, gallery = on_grid(seed, 7), on_grid(seed + 10, 30)
    for k1, k2 in ((4, 2), (6, 3)):
        got = reranked(query, gallery, k1=k1, k2=k2)
        np.testing.assert_allclose(got, literal(query, gallery, k1, k2), atol=2e-6)


def test_chunks_do_not_change_a_bit_where_distances_are_exact():
    query, gallery = on_grid(0, 40), on_grid(1, 300)
    whole = reranked(query, gallery)
    np.testing.assert_array_equal(reranked(query, gallery, chunk_bytes=1), whole)
    np.testing.assert_array_equal(reranked(query, gallery, chunk_bytes=50_000), whole)


def test_blocks_of_images_join_without_seams():
    query, gallery = people(5, 10), people(6, 255)  # more than one block of 256
    got = reranked(query, gallery, k1=3, k2=2)
    np.testing.assert_allclose(got[:2], literal(query, gallery, 3, 2)[:2], atol=2e-6)


def test_order_of_the_gallery_and_scale_do_not_matter():
    query, gallery = people(7, 8), people(8, 40)
    order = np.random.default_rng(0).permutation(40)
    whole = reranked(query, gallery, k1=6)
    np.testing.assert_allclose(reranked(query, gallery.take(order), k1=6), whole[:, order], 1e-5)
    larger = [
        Embedding(vectors=4 * side.vectors, quality=side.quality) for side in (query, gallery)
    ]
    np.testing.assert_allclose(reranked(*larger, k1=6), whole, rtol=1e-4)


def test_share_of_one_is_the_distance_itself():
    query, gallery = people(9, 5), people(10, 30)
    everything = join(query, gallery)
    largest = distance_matrix(query, everything).max(axis=1, keepdims=True)
    got = reranked(query, gallery, share=1)
    np.testing.assert_allclose(got, distance_matrix(query, gallery) / largest, rtol=1e-5)


def test_finds_more_matches_where_people_form_groups():
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(40, 1, 16))
    sides, labels = [], []
    for num in (3, 12):
        pids = np.repeat(np.arange(1, 41), num)
        vectors = centres[pids - 1] + 1.1 * rng.normal(size=(len(pids), 1, 16))
        vectors /= np.linalg.norm(vectors, axis=2, keepdims=True)
        quality = np.ones((len(pids), 1), dtype=np.float32)
        sides.append(Embedding(vectors=vectors.astype(np.float32), quality=quality))
        zeros = np.zeros(len(pids), dtype=np.int64)
        labels.append(Labels(pids=pids, camids=zeros, rates=zeros + 1.0, heights=zeros))

    def mean_ap(distances):
        protocol = PROTOCOLS["all-shot"]
        return evaluate(protocol, distances, *labels, streams=Streams(0)).mean_ap

    assert mean_ap(rerank_rows(*sides)) > mean_ap(tuple(sides)) + 0.1


def test_smallest_sets():
    one = people(11, 1)
    assert reranked(one, people(12, 1)).shape == (1, 1)
    same = one.take(np.array([0, 0, 0]))
    np.testing.assert_allclose(reranked(one, same), 0, atol=1e-6)  # no division by nothing


def test_one_side_may_lack_what_no_distance_needs():
    query, gallery = people(1, 4), people(2, 9)
    norms = np.ones((4, 2), dtype=np.float32)
    with_norms = replace(query, norms=norms, fingerprint="known")
    np.testing.assert_array_equal(reranked(with_norms, gallery), reranked(query, gallery))


def test_mistakes_are_refused_before_the_first_row():
    query, gallery = people(1, 4), people(2, 9)
    for wrong in ({"k1": 0}, {"k2": 0}, {"share": 1.5}, {"share": -0.1}):
        with pytest.raises(ConfigError, match="expected k1 and k2 of at least 1 and a share"):
            rerank_rows(query, gallery, **wrong)
    with pytest.raises(ConfigError, match="fusion: query says 'weighted', gallery says 'hr'"):
        rerank_rows(query, people(2, 9, fusion="hr"))
    with pytest.raises(ShapeError, match="equal D"):
        rerank_rows(query, people(2, 9, dim=5))
    broken = people(2, 9)
    broken.vectors[3] = np.nan
    with pytest.raises(ProtocolError, match="1 vectors are not finite"):
        rerank_rows(query, broken)


def test_the_full_matrix_never_exists():
    query, gallery = people(1, 400, num_people=100), people(2, 2600, num_people=100)
    tracemalloc.start()
    for _ in rerank_rows(query, gallery, chunk_bytes=2**20):
        pass
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 * 3000**2 / 2  # half of one float32 matrix over all images
