"""What a gallery keeps, finds, forgets and refuses."""

import dataclasses
import errno
import shutil
import threading
import time
from datetime import UTC, datetime

import numpy as np
import pytest
from retrieval.galleries import draw, filled, items, nearest, same

import resolute as rs
from resolute.core.errors import (
    ConfigError,
    GalleryBusyError,
    GalleryError,
    ProtocolError,
    ReidError,
)
from resolute.retrieval import embedded
from resolute.retrieval.embedded import EmbeddedEngine
from resolute.retrieval.gallery import DAY_S, Gallery
from resolute.retrieval.types import Item, VectorSpace, Where


@pytest.fixture
def gallery(tmp_path):
    with filled(tmp_path / "g", draw(1, 30)) as opened:
        yield opened


def test_everything_added_comes_back(tmp_path):
    embedding = dataclasses.replace(draw(1, 3), norms=np.full((3, 2), 7, dtype=np.float32))
    new = [
        Item(key="a/ü.jpg", camera="Eingang", time=12.5, thumbnail=b"\xff\xd8 one"),
        Item(key="b", time=None),
        Item(key="c", camera="c2", thumbnail=b"\xff\xd8 three"),
    ]
    space = VectorSpace.of(embedding, fingerprint="model")
    began = time.time()
    with Gallery.create(tmp_path / "g", space=space, retention_days=30) as gallery:
        assert gallery.add(new, embedding).tolist() == [0, 1, 2]
    gallery = Gallery.open(tmp_path / "g", fingerprint="model")
    assert gallery.space == space
    assert gallery.retention_days == 30
    assert len(gallery) == 3
    assert list(gallery.keys()) == ["a/ü.jpg", "b", "c"]
    assert "b" in gallery
    assert "d" not in gallery
    assert 3 not in gallery
    for i, item in enumerate(new):
        entry = gallery.entry(item.key)
        assert (entry.id, entry.camera, entry.time) == (i, item.camera, item.time)
        assert began - 1 <= entry.added <= time.time()
        assert entry.native_size == tuple(embedding.native_sizes[i].tolist())
        assert entry.reliability == embedding.reliability[i]
        assert entry.quality == tuple(embedding.quality[i].tolist())
        assert gallery.thumbnail(item.key) == item.thumbnail
        assert entry.has_thumbnail == (item.thumbnail is not None)
    back = gallery.embedding(["c", "a/ü.jpg"])
    for name in ("vectors", "quality", "norms", "native_sizes", "reliability"):
        np.testing.assert_array_equal(getattr(back, name), getattr(embedding, name)[[2, 0]])
    stats = gallery.stats()
    assert stats.cameras == {"": 1, "Eingang": 1, "c2": 1}
    assert (stats.first_time, stats.last_time) == (12.5, 12.5)
    assert stats.num_bytes == sum(p.stat().st_size for p in (tmp_path / "g").rglob("*.*"))
    assert gallery.verify() > 0


def test_the_words_of_a_gallery_are_at_the_top():
    assert (rs.Gallery, rs.Item, rs.VectorSpace, rs.Where) == (Gallery, Item, VectorSpace, Where)


def test_what_is_unknown_comes_back_as_unknown(tmp_path):
    embedding = dataclasses.replace(draw(1, 2), native_sizes=None, reliability=None)
    with filled(tmp_path / "g", embedding) as gallery:
        back = gallery.embedding(["k0000"])
        assert back.native_sizes is back.reliability is back.norms is None
        hit = gallery.search(embedding, k=1)[0].hits[0]
        assert hit.native_size is hit.reliability is None
        assert gallery.search(embedding, where=Where(min_reliability=0))[0].hits == ()


def test_a_hit_says_which_stream_decided(gallery):
    query = gallery.embedding(["k0003"])
    hit = gallery.search(draw(9, 1), k=1)[0].hits[0]
    stored = gallery.embedding([hit.key])
    asked = draw(9, 1)
    apart = ((asked.vectors[0].astype(float) - stored.vectors[0]) ** 2).sum(axis=1)
    a, b = asked.quality[0].astype(float) * stored.quality[0]
    np.testing.assert_allclose(hit.stream_distances, apart)
    assert hit.hr_share == pytest.approx(a / (a + b))
    assert hit.distance == pytest.approx((a * apart[0] + b * apart[1]) / (a + b))
    itself = gallery.search(query, k=1)[0].hits[0]
    assert (itself.key, itself.id, itself.distance) == ("k0003", 3, 0.0)


@pytest.mark.parametrize(
    ("where", "test"),
    [
        (Where(camera="c1"), lambda i, e: i % 3 == 1),
        (Where(camera=["c1", "c2", "nowhere"]), lambda i, e: i % 3 != 0),
        (Where(camera="nowhere"), lambda i, e: False),
        (Where(not_camera="c1"), lambda i, e: i % 3 != 1),
        (Where(not_camera=("nowhere",)), lambda i, e: True),
        (Where(start=5), lambda i, e: i >= 5),
        (Where(end=5), lambda i, e: i < 5),
        (Where(start=7, end=8), lambda i, e: i == 7),
        (Where(min_reliability=0.4), lambda i, e: e.reliability[i] >= np.float32(0.4)),
        (Where(camera="c0", not_camera="c0"), lambda i, e: False),
        (
            Where(camera="c0", start=3, end=20, min_reliability=0.1),
            lambda i, e: i % 3 == 0 and 3 <= i < 20 and e.reliability[i] >= np.float32(0.1),
        ),
    ],
)
def test_conditions(gallery, where, test):
    embedding, query = draw(1, 30), draw(2, 2)
    passing = np.array([test(i, embedding) for i in range(30)])
    for answer, want in zip(
        gallery.search(query, k=30, where=where),
        nearest(query, embedding, 30, passing),
        strict=True,
    ):
        same(answer, want)
        assert answer.num_compared == passing.sum()
    kept = [f"k{i:04d}" for i in np.flatnonzero(passing)]
    assert list(gallery.keys(where=where)) == kept
    assert [e.key for e in gallery.entries(where=where, start=2, limit=3)] == kept[2:5]
    assert gallery.delete_where(where) == len(kept)
    assert len(gallery) == 30 - len(kept)


def test_images_without_time_pass_no_window(tmp_path):
    with Gallery.create(
        tmp_path / "g", space=VectorSpace.of(draw(1, 1), fingerprint="")
    ) as gallery:
        gallery.add([Item(key="a")], draw(1, 1))
        assert gallery.search(draw(1, 1), where=Where(start=0))[0].hits == ()
        with pytest.raises(GalleryError, match=r"no model, got model 'any': .* when the gallery"):
            gallery.search(dataclasses.replace(draw(1, 1), fingerprint="any"))
        assert gallery.search(draw(1, 1), where=Where(end=1e12))[0].hits == ()


def test_deleting_hides_and_keys_can_come_again(gallery):
    assert gallery.delete(["k0003", "k0004"]) == 2
    assert "k0003" not in gallery
    assert len(gallery) == 28
    assert gallery.stats().num_deleted == 2
    found = [hit.key for hit in gallery.search(draw(2, 1), k=40)[0].hits]
    assert len(found) == 28
    assert "k0003" not in found
    for call in (gallery.entry, gallery.thumbnail, lambda key: gallery.embedding([key])):
        with pytest.raises(GalleryError, match="no image 'k0003'"):
            call("k0003")
    with pytest.raises(GalleryError, match="1 of 2 keys are not in the gallery, first 'k0003'"):
        gallery.delete(["k0005", "k0003"])
    assert "k0005" in gallery
    assert gallery.delete(["k0005", "k0003"], on_missing="skip") == 1
    assert gallery.add([Item(key="k0003")], draw(5, 1)).tolist() == [30]
    assert gallery.entry("k0003").camera == ""
    assert gallery.purge() == 3
    assert gallery.purge() == 0
    assert gallery.stats().num_deleted == 0
    assert list(gallery.keys())[-1] == "k0003"
    assert gallery.add([Item(key="new")], draw(6, 1)).tolist() == [31]
    assert gallery.verify()


def test_ids_and_ties_survive_a_purge(tmp_path, monkeypatch):
    monkeypatch.setattr("resolute.retrieval.turnover.rows_per_segment", lambda _: 7)
    embedding = draw(1, 30, repeats=5)
    with filled(tmp_path / "g", embedding) as gallery:
        gallery.delete([f"k{i:04d}" for i in (0, 1, 8, 20, 29)])
        kept = np.array([i not in (0, 1, 8, 20, 29) for i in range(30)])
        for _ in range(2):
            query = draw(2, 3)
            for answer, want in zip(
                gallery.search(query, k=30), nearest(query, embedding, 30, kept), strict=True
            ):
                same(answer, want)
                assert [h.id for h in answer.hits] == [j for j, _ in want]
            assert gallery.verify()
            gallery.purge()
        gallery.delete_where(Where(end=100))
        assert gallery.purge() == 25
        assert len(gallery) == 0
        assert gallery.search(query)[0].hits == ()
        assert list((tmp_path / "g" / "segments").iterdir()) == []


def test_retention_counts_from_the_image_or_from_adding(tmp_path):
    now = time.time()
    space = VectorSpace.of(draw(1, 1), fingerprint="")
    with Gallery.create(tmp_path / "g", space=space, retention_days=2) as gallery:
        gallery.add(
            [
                Item(key="old", time=now - 3 * DAY_S),
                Item(key="young", time=now - DAY_S),
                Item(key="untimed"),
            ],
            draw(1, 3),
        )
        assert gallery.expire(now) == 1
        assert gallery.stats().num_deleted == 0
        assert list(gallery.keys()) == ["young", "untimed"]
        assert gallery.expire(now + 1.5 * DAY_S) == 1
        assert list(gallery.keys()) == ["untimed"]
        assert gallery.expire(now + 3 * DAY_S) == 1
        assert gallery.expire() == 0
    with Gallery.create(tmp_path / "f", space=space, retention_days=2) as gallery:
        # A clock that was wrong, or milliseconds: no image is taken after it was added.
        ahead = [Item(key="soon", time=now + 9 * DAY_S), Item(key="ms", time=now * 1000)]
        gallery.add([*ahead, Item(key="old", time=now - 3 * DAY_S)], draw(1, 3))
        assert gallery.expire(now + DAY_S) == 1
        assert list(gallery.keys()) == ["soon", "ms"]
        assert gallery.entry("ms").time == now * 1000
        assert gallery.expire(now + 3 * DAY_S) == 2
    with Gallery.create(tmp_path / "h", space=space) as gallery:
        gallery.add([Item(key="old", time=0.0)], draw(1, 1))
        assert gallery.expire() == 0
        assert "old" in gallery


def test_another_model_is_refused(gallery, tmp_path):
    query = draw(2, 1)
    of_other = dataclasses.replace(query, fingerprint="other")
    with pytest.raises(GalleryError, match="made by model 'model', got model 'other'"):
        gallery.search(of_other)
    with pytest.raises(GalleryError, match="index the images again"):
        gallery.add(items(1, start=50), of_other)
    with pytest.raises(GalleryError, match="made by model 'model', got model 'other'"):
        Gallery.open(tmp_path / "g", fingerprint="other")
    assert gallery.search(dataclasses.replace(query, fingerprint="model"))[0].hits
    assert gallery.search(query)[0].hits, "who gives vectors of no known model vouches for them"
    assert gallery.embedding(list(gallery.keys())[:1]).fingerprint == "model"
    assert VectorSpace.of(of_other).fingerprint == "other"
    for change, message in (
        ({"dim": 7}, "expected embeddings with dim 6, got 7"),
        ({"streams": 1}, "num_streams 2, got 1"),
        ({"fusion": "mean"}, "fusion 'weighted', got 'mean'"),
        ({"metric": "euclidean"}, "metric 'sqeuclidean', got 'euclidean'"),
    ):
        with pytest.raises(GalleryError, match=message):
            gallery.search(draw(1, 1, **change))
    assert gallery.search(draw(2, 1, constant=0.9))[0].hits  # without effect here
    with (
        filled(tmp_path / "c", draw(1, 2, fusion="constant", constant=0.2)) as other,
        pytest.raises(GalleryError, match=r"constant 0\.2, got 0\.9"),
    ):
        other.search(draw(1, 1, fusion="constant", constant=0.9))


def test_wrong_calls_say_what_is_wrong(gallery):
    with pytest.raises(
        GalleryError, match=r"2 of 3 keys are in the gallery already, first 'k0028'"
    ):
        gallery.add(items(3, start=28), draw(3, 3))
    with pytest.raises(GalleryError, match="key 'x' comes twice"):
        gallery.add([Item(key="x"), Item(key="x")], draw(3, 2))
    with pytest.raises(GalleryError, match="as many items as embeddings, got 1 and 2"):
        gallery.add([Item(key="x")], draw(3, 2))
    with pytest.raises(ConfigError, match="k: expected at least 1, got 0"):
        gallery.search(draw(3, 1), k=0)
    with pytest.raises(ConfigError, match="at least one condition"):
        gallery.delete_where(Where())
    with pytest.raises(ConfigError, match="on_missing"):
        gallery.delete(["k0000"], on_missing="ignore")
    assert len(gallery) == 30
    assert gallery.add([], draw(3, 0)).tolist() == []
    assert gallery.search(draw(3, 0)) == []
    assert gallery.delete([]) == 0


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda e: e.vectors.__setitem__((1, 0, 0), np.nan), "1 vectors are not finite or beyond"),
        (lambda e: e.vectors.__setitem__((1, 0, 0), 1e20), "beyond 1e.15, first at image 1"),
        (lambda e: e.quality.__setitem__((1, 0), -1), "expected finite quality >= 0"),
        (lambda e: e.quality.__setitem__((1, 0), np.inf), "expected finite quality >= 0"),
        (lambda e: e.quality.__setitem__(1, 0), "image 1 has quality 0 in every stream"),
    ],
)
def test_values_are_checked_on_both_ways(gallery, spoil, message):
    embedding = draw(3, 2)
    spoil(embedding)
    with pytest.raises(ProtocolError, match=f"add: .*{message}|add: {message}"):
        gallery.add(items(2, start=50), embedding)
    with pytest.raises(ProtocolError, match=f"query: .*{message}|query: {message}"):
        gallery.search(embedding)


def test_quality_zero_is_fine_where_it_has_no_part(tmp_path):
    embedding = draw(3, 2, fusion="mean")
    embedding.quality[1] = 0
    with filled(tmp_path / "g", embedding) as gallery:
        assert len(gallery.search(embedding)[1].hits) == 2


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"key": ""}, "key: expected 1 to 1024 bytes"),
        ({"key": "x" * 1025}, "got 1025 bytes"),
        ({"key": "a\nb"}, "without control characters"),
        ({"key": "a\ud800"}, "without control characters"),
        ({"key": "a", "camera": "c" * 1025}, "camera: expected 0 to 1024 bytes"),
        ({"key": "a", "thumbnail": b""}, "a: expected a thumbnail or None, got no bytes"),
        ({"key": "a", "time": float("nan")}, "a: expected a finite time or None, got nan"),
        (
            {"key": "a", "time": datetime.now(UTC)},
            r"a: expected a finite time .* seconds since 1970, of a datetime its timestamp\(\)",
        ),
        ({"key": "a", "time": "2026"}, "got '2026'; times are seconds since 1970"),
    ],
)
def test_items_are_checked(fields, message):
    with pytest.raises(GalleryError, match=message):
        Item(**fields)


def test_settings_are_checked(tmp_path):
    for fields, message in (
        ({"num_streams": 3}, "expected 1 or 2 streams"),
        ({"dim": 0}, "at least 1 number"),
        ({"metric": "cosine"}, "unknown metric 'cosine'"),
        ({"fusion": "weigted"}, "did you mean 'weighted'"),
        ({"constant": 1.5}, r"share in 0\.\.1, got 1\.5"),
    ):
        with pytest.raises(ConfigError, match=message):
            VectorSpace(**{"fingerprint": "", "num_streams": 2, "dim": 4, **fields})
    for fields, message in (
        ({"start": float("inf")}, "expected a finite start, got inf; times are seconds since 1970"),
        ({"start": datetime.now(UTC)}, r"start, got datetime.* its timestamp\(\)"),
        ({"end": "2026"}, "expected a finite end, got '2026'"),
        ({"min_reliability": float("nan")}, "expected a finite min_reliability, got nan$"),
        ({"min_reliability": 50}, r"expected min_reliability 0\.\.1, got 50"),
        ({"min_reliability": -0.1}, r"expected min_reliability 0\.\.1, got -0\.1"),
        ({"start": 2.0, "end": 1.0}, r"expected start <= end, got 2\.0 and 1\.0"),
    ):
        with pytest.raises(ConfigError, match=message):
            Where(**fields)
    Where(start=1, end=1, min_reliability=np.float32(1))
    Where(start=np.int64(1), end=np.float32(2), min_reliability=0)
    space = VectorSpace(fingerprint="", num_streams=2, dim=4)
    for days in (0, -1, float("nan")):
        with pytest.raises(ConfigError, match="retention: expected days above 0"):
            Gallery.create(tmp_path / "g", space=space, retention_days=days)


def test_folders_are_checked(tmp_path):
    space = VectorSpace(fingerprint="", num_streams=2, dim=4)
    with pytest.raises(GalleryError, match="no gallery there"):
        Gallery.open(tmp_path / "nowhere")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    with pytest.raises(GalleryError, match="expected an empty folder for a new gallery"):
        Gallery.create(tmp_path / "full", space=space)
    Gallery.create(tmp_path / "g", space=space).close()
    with pytest.raises(GalleryError, match=r"holds 'manifest\.json'"):
        Gallery.create(tmp_path / "g", space=space)
    (tmp_path / "file").touch()
    with pytest.raises(GalleryError, match="creating the gallery was not done"):
        Gallery.create(tmp_path / "file" / "g", space=space)


def test_a_gallery_made_in_between_is_not_written_over(tmp_path, monkeypatch):
    embedding = draw(1, 3)
    space = VectorSpace.of(embedding, fingerprint="model")
    take_lock = EmbeddedEngine._take_lock

    def be_late(engine):
        monkeypatch.setattr(EmbeddedEngine, "_take_lock", take_lock)
        filled(tmp_path / "g", embedding).close()
        take_lock(engine)

    monkeypatch.setattr(EmbeddedEngine, "_take_lock", be_late)
    with pytest.raises(GalleryError, match=r"holds 'manifest\.json'"):
        Gallery.create(tmp_path / "g", space=space)
    with Gallery.open(tmp_path / "g") as gallery:
        assert len(gallery) == 3
        gallery.lock()  # the one that came late holds nothing


def test_double_precision_is_stored_as_single(tmp_path):
    embedding = draw(1, 5, dim=64)
    vectors = embedding.vectors.astype(np.float64) * (1 + 3e-8)
    precise = dataclasses.replace(embedding, vectors=vectors)
    with filled(tmp_path / "g", precise) as gallery:
        gallery.verify()


def test_one_writer_and_readers_with_a_steady_view(gallery, tmp_path):
    reader = Gallery.open(tmp_path / "g")
    with pytest.raises(
        GalleryBusyError, match=r"another process, or another Gallery .* writes to this gallery"
    ):
        reader.lock()
    for write in (
        lambda: reader.add([Item(key="x")], draw(3, 1)),
        lambda: reader.delete(["k0000"]),
        lambda: reader.delete_where(Where(camera="c0")),
        reader.purge,
    ):
        with pytest.raises(GalleryError, match="writes to this gallery; close it, or wait"):
            write()
    before = reader.search(draw(2, 2), k=40)
    gallery.delete(["k0000", "k0007"])
    gallery.purge()
    gallery.add(items(5, start=60), draw(4, 5))
    assert reader.search(draw(2, 2), k=40) == before
    assert "k0000" in reader
    reader.refresh()
    assert "k0000" not in reader
    assert len(reader) == 33
    gallery.close()
    assert reader.delete(["k0001"]) == 1  # takes the lock that is free now
    reader.close()


def test_a_closed_gallery_stays_closed(gallery, tmp_path):
    query = draw(2, 1)
    listed = gallery.keys()
    for _ in range(2):
        gallery.close()
    for call in (
        lambda: gallery.add([Item(key="x")], draw(3, 1)),
        lambda: gallery.search(query),
        lambda: gallery.contains(["k0000"]),
        lambda: "k0000" in gallery,
        lambda: gallery.was_deleted(["k0000"]),
        gallery.keys,
        gallery.entries,
        lambda: gallery.entry("k0000"),
        lambda: gallery.embedding(["k0000"]),
        lambda: gallery.thumbnail("k0000"),
        lambda: gallery.delete(["k0000"]),
        lambda: gallery.delete_where(Where(camera="c0")),
        gallery.purge,
        gallery.lock,
        gallery.refresh,
        gallery.stats,
        lambda: len(gallery),
        gallery.verify,
    ):
        with pytest.raises(GalleryError, match="the gallery is closed; open it again"):
            call()
    with Gallery.open(tmp_path / "g") as other:
        other.lock()  # nobody took it back
        other.close()
    assert len(list(listed)) == 30  # what was begun goes on


def test_only_another_writer_is_called_busy(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    filled(tmp_path / "g", draw(1, 3)).close()
    monkeypatch.setattr(embedded.fcntl, "flock", refuse)
    with (
        Gallery.open(tmp_path / "g") as gallery,
        pytest.raises(GalleryError, match=r"locking was not done .*: No locks") as refused,
    ):
        gallery.lock()
    assert not isinstance(refused.value, GalleryBusyError)


def test_what_is_fixed_is_answered_without_waiting_and_files(tmp_path, monkeypatch):
    told = []
    gallery = filled(tmp_path / "g", draw(1, 3), retention_days=30)
    fixed = (gallery.space, gallery.retention_days)
    write = embedded.write_manifest

    def slow(folder, manifest):
        asking = threading.Thread(
            target=lambda: told.append((gallery.space, gallery.retention_days)), daemon=True
        )
        asking.start()
        asking.join(10)
        told.append("written")
        write(folder, manifest)

    monkeypatch.setattr(embedded, "write_manifest", slow)
    gallery.delete(["k0000"])
    assert told == [fixed, "written"]
    gallery.close()
    shutil.rmtree(tmp_path / "g")
    assert (gallery.space, gallery.retention_days) == fixed


def test_a_late_writer_sees_what_came_before(gallery, tmp_path):
    late = Gallery.open(tmp_path / "g")
    gallery.add([Item(key="between")], draw(4, 1))
    gallery.close()
    assert late.add([Item(key="after")], draw(5, 1)).tolist() == [31]
    assert list(late.keys())[-2:] == ["between", "after"]
    late.close()


def test_cameras_beyond_the_limit(gallery, monkeypatch):
    monkeypatch.setattr("resolute.retrieval.embedded._MOST_CAMERAS", 4)
    with pytest.raises(ConfigError, match="at most 4 names in a gallery, got 5"):
        gallery.add([Item(key="a", camera="x"), Item(key="b", camera="y")], draw(1, 2))
    gallery.delete_where(Where(camera="c1"))
    gallery.purge()
    gallery.add([Item(key="a", camera="x"), Item(key="b", camera="y")], draw(1, 2))
    assert sorted(gallery.stats().cameras) == ["c0", "c2", "x", "y"]
    assert gallery.entry("b").camera == "y"


def test_searches_go_on_while_another_thread_writes(tmp_path):
    embedding, query = draw(1, 400), draw(2, 3)
    faults, answers = [], []
    done = threading.Event()
    with filled(tmp_path / "g", embedding.take(slice(100))) as gallery:

        def look():
            while not done.is_set():
                try:
                    answers.extend(gallery.search(query, k=20))
                    gallery.stats()
                    list(gallery.keys())
                except ReidError as error:
                    faults.append(error)

        threads = [threading.Thread(target=look) for _ in range(3)]
        for thread in threads:
            thread.start()
        try:
            for start in range(100, 220, 20):
                gallery.add(items(20, start=start), embedding.take(slice(start, start + 20)))
                gallery.delete([f"k{start - 60:04d}"])
                gallery.purge()
        finally:
            done.set()  # else a failure here would leave them looking for ever
            for thread in threads:
                thread.join()
        assert not faults
        assert len(gallery) == 214
    assert answers
    for answer in answers:
        distances = [hit.distance for hit in answer.hits]
        assert distances == sorted(distances)
        assert len({hit.key for hit in answer.hits}) == 20


def test_numbers_are_no_names():
    with pytest.raises(GalleryError, match=r"camera: expected text, got 5; write str\(5\)"):
        Item(key="b", camera=5)
    for camera in (1, [1], np.int64(1)):
        with pytest.raises(ConfigError, match=r"where: expected camera as text, got .*1"):
            Where(camera=camera)
