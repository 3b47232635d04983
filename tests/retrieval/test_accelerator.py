"""FAISS finds candidates; what it does not prove is searched in full."""

import numpy as np
import pytest
from retrieval.galleries import draw, filled, items, nearest, same

from resolute.core.errors import ConfigError
from resolute.retrieval.accelerator import FaissAccelerator
from resolute.retrieval.embedded import EmbeddedEngine
from resolute.retrieval.gallery import Gallery
from resolute.retrieval.types import Where

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
    monkeypatch.setattr("resolute.retrieval.embedded.rows_per_segment", lambda _: 150)
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
