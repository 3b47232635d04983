"""Qdrant: the formula on the server, the proof, and what is refused."""

import dataclasses
import socket
import time

import numpy as np
import pytest
from retrieval.galleries import draw, items, nearest

from resolute.core.errors import ConfigError, GalleryError, ProtocolError
from resolute.retrieval.client import connect
from resolute.retrieval.gallery import DAY_S, Gallery
from resolute.retrieval.place import is_gallery, open_gallery
from resolute.retrieval.qdrant import QdrantEngine
from resolute.retrieval.types import Item, VectorSpace, Where

pytest.importorskip("qdrant_client")


@pytest.fixture
def client():
    opened = connect(":memory:")
    yield opened
    opened.close()


def filled(client, embedding, **settings):
    space = VectorSpace.of(embedding, fingerprint="model")
    gallery = Gallery(QdrantEngine.create(client, "people", space=space, **settings))
    gallery.add(items(len(embedding)), embedding)
    return gallery


@pytest.mark.parametrize(
    ("streams", "fusion", "metric"),
    [
        (1, "weighted", "sqeuclidean"),
        (1, "hr", "euclidean"),
        (2, "weighted", "sqeuclidean"),
        (2, "fused", "sqeuclidean"),
        (2, "fused", "euclidean"),
    ],
)
def test_finds_what_the_definition_finds(client, streams, fusion, metric):
    kind = {"streams": streams, "fusion": fusion, "metric": metric}
    embedding, query = draw(1, 150, **kind), draw(2, 3, **kind)
    gallery = filled(client, embedding)
    for answer, want in zip(gallery.search(query, k=7), nearest(query, embedding, 7), strict=True):
        assert answer.exact
        assert [hit.key for hit in answer.hits] == [f"k{j:04d}" for j, _ in want]
        np.testing.assert_allclose(
            [h.distance for h in answer.hits], [d for _, d in want], atol=1e-5
        )
    passing = np.arange(150) % 3 != 0
    filtered = gallery.search(query, k=7, where=Where(not_camera="c0"))
    for answer, want in zip(filtered, nearest(query, embedding, 7, passing), strict=True):
        assert [hit.key for hit in answer.hits] == [f"k{j:04d}" for j, _ in want]
        assert answer.num_compared == 100


def test_an_answer_that_cannot_be_proven_says_so(client, monkeypatch):
    # Weights far apart: the plain score says little, 64 candidates of 300 do not prove anything.
    monkeypatch.setattr("resolute.retrieval.finder._MOST_CANDIDATES", 64)
    embedding, query = draw(1, 300), draw(2, 20)
    embedding.quality[:, 0] = np.geomspace(1e-3, 1, 300)
    embedding.quality[:, 1] = np.geomspace(1, 1e-3, 300)
    answers = filled(client, embedding).search(query, k=10)
    assert not all(answer.exact for answer in answers)
    for answer, want in zip(answers, nearest(query, embedding, 10), strict=True):
        if answer.exact:
            assert [hit.key for hit in answer.hits] == [f"k{j:04d}" for j, _ in want]


def test_an_approximate_gallery_never_claims_proof(client):
    embedding = draw(1, 30)
    gallery = filled(client, embedding, is_approximate=True)
    assert not gallery.search(draw(2, 1), k=3)[0].exact


def test_open_finds_what_create_made(client):
    filled(client, draw(1, 5), retention_days=3)
    engine = QdrantEngine.open(client, "people")
    assert engine.space.fingerprint == "model"
    assert engine.retention_days == 3
    with pytest.raises(GalleryError, match="'people' is there already"):
        QdrantEngine.create(client, "people", space=engine.space)
    with pytest.raises(GalleryError, match="no gallery 'others' on this server"):
        QdrantEngine.open(client, "others")
    with pytest.raises(GalleryError, match="made by model 'model', got model 'x'"):
        Gallery(engine).search(dataclasses.replace(draw(1, 1), fingerprint="x"))
    assert engine.embedding(list(Gallery(engine).keys())[:1]).fingerprint == "model"


@pytest.mark.parametrize("days", [-1, 0, float("nan")])
def test_a_retention_erases_not_everything(client, days):
    space = VectorSpace.of(draw(1, 1), fingerprint="model")
    with pytest.raises(ConfigError, match="retention: expected days above 0"):
        QdrantEngine.create(client, "people", space=space, retention_days=days)
    assert not client.collection_exists("people")


def test_a_time_to_come_keeps_no_image_for_ever(client):
    now = time.time()
    gallery = filled(client, draw(1, 1), retention_days=2)
    ahead = [Item(key="soon", time=now + 9 * DAY_S), Item(key="ms", time=now * 1000)]
    gallery.add([*ahead, Item(key="untimed")], draw(2, 3))
    assert gallery.expire(now + DAY_S) == 1
    assert list(gallery.keys()) == ["soon", "ms", "untimed"]
    assert gallery.expire(now + 3 * DAY_S) == 3


def test_a_closed_gallery_stays_closed(client):
    gallery = filled(client, draw(1, 3))
    for _ in range(2):
        gallery.close()
    for call in (
        lambda: gallery.search(draw(2, 1)),
        lambda: gallery.add([Item(key="x")], draw(3, 1)),
        lambda: gallery.delete(["k0000"]),
        lambda: list(gallery.keys()),
        gallery.purge,
        gallery.lock,
        gallery.refresh,
        gallery.stats,
        gallery.verify,
    ):
        with pytest.raises(GalleryError, match="'people' is closed; open it again"):
            call()
    assert len(Gallery(QdrantEngine.open(client, "people"))) == 3  # the client is its owner's


def test_what_one_vector_cannot_serve_is_refused(client):
    for fusion, metric in (
        ("mean", "sqeuclidean"),
        ("hr", "sqeuclidean"),
        ("weighted", "euclidean"),
    ):
        space = VectorSpace.of(draw(1, 1, fusion=fusion, metric=metric), fingerprint="")
        with pytest.raises(ConfigError, match="use the embedded engine"):
            QdrantEngine.create(client, "x", space=space)
    gallery = filled(client, draw(1, 3))
    with pytest.raises(ProtocolError, match="expected normalised vectors, got one of length"):
        gallery.search(draw(1, 1, unit=False))
    no_trust = dataclasses.replace(draw(1, 1), quality=np.array([[1, 0]], dtype=np.float32))
    with pytest.raises(ProtocolError, match="quality above 0"):
        gallery.add(items(1, start=9), no_trust)


@pytest.mark.parametrize("tags", [(3, 200), (7, 7)])
def test_writers_of_one_instant_lose_no_image(client, monkeypatch, tags):
    monkeypatch.setattr("resolute.retrieval.qdrant.time.time_ns", lambda: 1_800_000_000 * 10**9)
    monkeypatch.setattr("resolute.retrieval.qdrant._PAGE", 16)
    embedding = draw(1, 20)
    space = VectorSpace.of(embedding, fingerprint="model")
    first = QdrantEngine.create(client, "people", space=space)
    # Eleven writers with the same clock, ten of them with the same tag: more twins than a page.
    writers = [first, *(QdrantEngine.open(client, "people") for _ in range(10))]
    for at, writer in enumerate(writers):
        writer._tag = tags[min(at, 1)]
        Gallery(writer).add(items(20, start=20 * at), embedding)
    names = [f"k{i:04d}" for i in range(220)]
    gallery = Gallery(first)
    assert sorted(gallery.keys()) == names
    assert sorted(entry.key for entry in gallery.entries()) == names
    assert gallery.verify() == 220 * 4 * 12
    ids = [entry.id for entry in gallery.entries()]
    assert ids == sorted(ids)
    assert max(ids) < 2**53


def test_writers_are_told_apart(client, monkeypatch):
    monkeypatch.setattr("resolute.retrieval.qdrant.time.time_ns", lambda: 1_800_000_000 * 10**9)
    tags = iter([3, 200])
    monkeypatch.setattr("resolute.retrieval.qdrant.secrets.randbits", lambda _: next(tags))
    embedding = draw(1, 20)
    engine = QdrantEngine.create(
        client, "people", space=VectorSpace.of(embedding, fingerprint="model")
    )
    for start, writer in ((0, engine), (20, QdrantEngine.open(client, "people"))):
        Gallery(writer).add(items(20, start=start), embedding)
    assert len({entry.id for entry in Gallery(engine).entries()}) == 40


def test_a_server_that_does_not_answer_is_named(monkeypatch):
    from qdrant_client.http.exceptions import UnexpectedResponse
    from qdrant_client.qdrant_remote import QdrantRemote

    # It warns from a thread of its own, at any time.
    monkeypatch.setattr(QdrantRemote, "_check_compatibility", lambda *_: None)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # nobody listens
        place = f"http://127.0.0.1:{taken.getsockname()[1]}/people"
        message = rf"qdrant at {place.removesuffix('/people')}: no answer \(.+\); is the server"
        for call in (is_gallery, open_gallery):
            with pytest.raises(GalleryError, match=message):
                call(place)

    def refuse(*_, **__):
        raise UnexpectedResponse(403, "Forbidden", b"", None)

    monkeypatch.setattr(QdrantRemote, "collection_exists", refuse)
    with pytest.raises(GalleryError, match=r"qdrant at .+: refused: 403 Forbidden"):
        is_gallery(place)


def test_folders_are_refused(tmp_path):
    from qdrant_client import QdrantClient

    for url in ("gallery", "/tmp/gallery", "file:///tmp/x", ""):
        with pytest.raises(ConfigError, match="runs code when opened"):
            connect(url)
    local = QdrantClient(path=str(tmp_path / "store"))
    space = VectorSpace.of(draw(1, 1), fingerprint="")
    with pytest.raises(ConfigError, match="path= is refused"):
        QdrantEngine.create(local, "x", space=space)
    with pytest.raises(ConfigError, match="path= is refused"):
        QdrantEngine.open(local, "x")
    local.close()


def test_damage_on_the_server_is_found(client):
    gallery = filled(client, draw(1, 3))
    assert gallery.verify() == 3 * 4 * 12
    client.set_payload("people", {"key": "other"}, points=[client.scroll("people")[0][0].id])
    with pytest.raises(GalleryError, match="is not that of 'other'"):
        gallery.verify()
    client.overwrite_payload("people-about", {"x": 1}, points=[0])
    with pytest.raises(GalleryError, match="describes no gallery"):
        QdrantEngine.open(client, "people")


def test_a_missing_client_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "qdrant_client", None)
    with pytest.raises(ConfigError, match=r'pip install "resolute-reid\[qdrant\]"'):
        connect("http://localhost:6333")
