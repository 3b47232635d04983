"""FAISS finds candidates; what it does not prove is searched in full."""

import numpy as np
import pytest
from retrieval.galleries import draw, filled, items, nearest, same

from resolute.core.errors import ConfigError
from resolute.retrieval.accelerator import FaissAccelerator
from resolute.retrieval.embedded import EmbeddedEngine
from resolute.retrieval.gallery import Gallery
from resolute.retrieval.types import VectorSpace, Where

pytest.importorskip("faiss")


@pytest.mark.parametrize("unit", [True, False])
@pytest.mark.parametrize(
    ("streams", "fusion", "metric"),
    [
        (1, "weighted", "euclidean"),
        (2, "weighted", "sqeuclidean"),
        (2, "fused", "sqeuclidean"),
        (2, "fused", "euclidean"),
    ],
)
def test_int8_is_exact_whatever_it_can_prove(tmp_path, monkeypatch, streams, fusion, metric, unit):
    monkeypatch.setattr("resolute.retrieval.turnover.rows_per_segment", lambda _: 150)
    kind = {"streams": streams, "fusion": fusion, "metric": metric, "unit": unit}
    embedding, query = draw(1, 400, **kind), draw(2, 6, **kind)
    filled(tmp_path / "g", embedding).close()
    accelerator = FaissAccelerator("int8", num_candidates=20)
    with Gallery.open(tmp_path / "g", accelerator=accelerator) as gallery:
        for answer, want in zip(
            gallery.search(query, k=5), nearest(query, embedding, 5), strict=True
        ):
            same(answer, want)
            assert answer.exact
        passing = np.arange(400) % 3 == 1
        for answer, want in zip(
            gallery.search(query, k=5, where=Where(camera="c1")),
            nearest(query, embedding, 5, passing),
            strict=True,
        ):
            same(answer, want)
        more = draw(5, 30, **kind)
        gallery.add(items(30, start=400), more)
        found = gallery.search(more.take(slice(3, 4)), k=1)[0].hits[0]
        assert found.key == "k0403"
        gallery.delete(["k0403"])
        gallery.purge()
        assert gallery.search(more.take(slice(3, 4)), k=1)[0].hits[0].key != "k0403"


def test_a_proven_answer_rescores_few(tmp_path):
    # The nearest images are close: the bound proves them without a scan.
    embedding = draw(1, 2000, dim=32)
    embedding.quality[:] = 0.5
    query = embedding.take(slice(3))
    filled(tmp_path / "g", embedding).close()
    accelerator = FaissAccelerator("int8", num_candidates=20)
    with Gallery.open(tmp_path / "g", accelerator=accelerator) as gallery:
        for i, answer in enumerate(gallery.search(query, k=1)):
            assert answer.hits[0].key == f"k{i:04d}"
            assert answer.exact
            assert answer.num_rescored == 20


def test_a_graph_finds_most_and_claims_nothing(tmp_path):
    embedding, query = draw(1, 500, dim=8), draw(2, 20, dim=8)
    filled(tmp_path / "g", embedding).close()
    with Gallery.open(tmp_path / "g", accelerator=FaissAccelerator("hnsw")) as gallery:
        answers = gallery.search(query, k=5)
        want = nearest(query, embedding, 5)
        found = [
            {h.key for h in a.hits} & {f"k{j:04d}" for j, _ in w}
            for a, w in zip(answers, want, strict=True)
        ]
        assert sum(map(len, found)) > 90
        assert not any(answer.exact for answer in answers)
        filtered = gallery.search(query, k=5, where=Where(camera="c2"))
        assert {h.camera for a in filtered for h in a.hits} == {"c2"}


def test_a_graph_finds_as_much_behind_a_filter(tmp_path):
    # A hundred cameras, each of which shifts its vectors: those of one camera lie apart.
    rng = np.random.default_rng(0)
    num, num_cameras = 5000, 100
    embedding = draw(1, num, streams=1, dim=16)
    shifts = rng.normal(size=(num_cameras, 16)) * 0.3
    vectors = embedding.vectors[:, 0] + shifts[np.arange(num) % num_cameras]
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    embedding.vectors[:, 0] = vectors
    query = embedding.take(slice(20))
    with Gallery.create(
        tmp_path / "g", space=VectorSpace.of(embedding, fingerprint="model")
    ) as gallery:
        gallery.add(items(num, cameras=num_cameras), embedding)
    wheres = [Where(camera=f"c{c}") for c in range(0, 100, 9)]
    wheres += [Where(start=0.4 * num), Where(not_camera="c3", end=0.7 * num)]
    found = wanted = 0
    with (
        Gallery.open(tmp_path / "g") as exact,
        Gallery.open(tmp_path / "g", accelerator=FaissAccelerator("hnsw")) as gallery,
    ):
        for where in wheres:
            truth = exact.search(query, k=60, where=where)
            for want, answer in zip(truth, gallery.search(query, k=60, where=where), strict=True):
                assert len(answer.hits) == min(60, answer.num_compared) == len(want.hits)
                found += len({h.key for h in answer.hits} & {h.key for h in want.hits})
                wanted += len(want.hits)
    assert found >= 0.95 * wanted


def test_what_the_graph_does_not_reach_is_scanned(tmp_path, monkeypatch):
    embedding, query = draw(1, 300), draw(2, 6)
    filled(tmp_path / "g", embedding).close()

    def lost(index, vectors, wanted, passing):
        rows = np.tile(np.arange(wanted), (len(vectors), 1))
        rows[::2, 4:] = -1
        return rows

    monkeypatch.setattr("resolute.retrieval.accelerator._Index.graph_candidates", lost)
    with Gallery.open(tmp_path / "g", accelerator=FaissAccelerator("hnsw")) as gallery:
        answers = gallery.search(query, k=5)
    for answer, want in list(zip(answers, nearest(query, embedding, 5), strict=True))[::2]:
        same(answer, want)


def test_one_accelerator_serves_galleries_apart(tmp_path):
    accelerator = FaissAccelerator("int8", num_candidates=20)
    query = draw(9, 3)
    for seed in (1, 2):
        embedding = draw(seed, 200)
        filled(tmp_path / f"g{seed}", embedding).close()
        with Gallery.open(tmp_path / f"g{seed}", accelerator=accelerator) as gallery:
            answers = gallery.search(query, k=5)
        for answer, want in zip(answers, nearest(query, embedding, 5), strict=True):
            same(answer, want)


@pytest.mark.parametrize("passing", [None, np.arange(100) % 4 != 0])
@pytest.mark.parametrize("kind", ["int8", "hnsw"])
def test_an_earlier_state_is_searched_by_a_grown_index(tmp_path, kind, passing):
    embedding, query = draw(1, 400), draw(2, 6)
    filled(tmp_path / "g", embedding.take(slice(100))).close()
    accelerator = FaissAccelerator(kind, num_candidates=20)
    engine = EmbeddedEngine.open(tmp_path / "g", accelerator=accelerator)
    if passing is not None:
        engine.delete([f"k{i:04d}" for i in np.flatnonzero(~passing)])
    earlier = engine._snapshot
    engine.add(items(300, start=100), embedding.take(slice(100, 400)), added=0.0)
    engine.search(query, k=5, where=Where())
    answers = earlier.search(query, k=5, where=Where(), accelerator=engine._accelerator)
    for answer, want in zip(
        answers, nearest(query, embedding.take(slice(100)), 5, passing), strict=True
    ):
        same(answer, want)
    engine.close()


def test_what_it_cannot_serve_is_refused(tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match="unknown accelerator 'int9': did you mean 'int8'"):
        FaissAccelerator("int9")
    filled(tmp_path / "g", draw(1, 3, fusion="mean")).close()
    with pytest.raises(ConfigError, match=r"got 'mean' \(sqeuclidean\); search without it"):
        Gallery.open(tmp_path / "g", accelerator=FaissAccelerator())
    monkeypatch.setitem(__import__("sys").modules, "faiss", None)
    with pytest.raises(ConfigError, match=r'pip install "resolute-reid\[faiss\]"'):
        FaissAccelerator()
