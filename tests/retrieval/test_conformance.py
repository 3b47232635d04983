"""One state machine against a dictionary, for every engine a gallery can lie on."""

import os
import shutil
import tempfile
import uuid
from pathlib import Path

import numpy as np
import pytest
from core.test_distance import literal_pair
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from retrieval.galleries import draw

from resolute.core.errors import GalleryError
from resolute.retrieval.accelerator import FaissAccelerator
from resolute.retrieval.client import connect
from resolute.retrieval.gallery import DAY_S, Gallery
from resolute.retrieval.qdrant import QdrantEngine
from resolute.retrieval.types import Item, VectorSpace, Where

KEYS = st.sampled_from([f"k{i}" for i in range(12)])
CAMERAS = ("", "c0", "c1")
RETENTION_DAYS = 10
POOL = draw(0, 40, dim=3, repeats=4)  # few vectors: many ties


class Embedded:
    """A folder; every check against it is to the bit."""

    is_to_the_bit = True
    accelerator = None

    def __init__(self):
        self.folder = Path(tempfile.mkdtemp())
        self.gallery = Gallery.create(self.folder / "g", space=SPACE, retention_days=RETENTION_DAYS)
        self.reopen()

    def reopen(self):
        self.gallery.close()
        self.gallery = Gallery.open(self.folder / "g", accelerator=self.accelerator)

    def remove(self):
        self.gallery.close()
        shutil.rmtree(self.folder)


class Accelerated(Embedded):
    def __init__(self):
        self.accelerator = FaissAccelerator("int8", num_candidates=2)
        super().__init__()


class Memory:
    """Qdrant's client without a server; vectors come back within float32 rounding."""

    is_to_the_bit = False
    url = ":memory:"

    def __init__(self):
        self.client = connect(self.url, api_key=os.environ.get("RESOLUTE_QDRANT_API_KEY"))
        self.name = f"resolute-test-{uuid.uuid4().hex}"
        engine = QdrantEngine.create(
            self.client, self.name, space=SPACE, retention_days=RETENTION_DAYS
        )
        self.gallery = Gallery(engine)

    def reopen(self):
        self.gallery.close()
        self.gallery = Gallery(QdrantEngine.open(self.client, self.name))

    def remove(self):
        for name in (self.name, f"{self.name}-about"):
            self.client.delete_collection(name)
        self.client.close()


class Server(Memory):
    url = os.environ.get("RESOLUTE_QDRANT_URL", "")


SPACE = VectorSpace.of(POOL, fingerprint="model")
WINDOWS = [
    {"start": start, "end": end}
    for start in (None, 0, 3, 9)
    for end in (None, 5, 9)
    if None in (start, end) or start <= end
]


class Machine(RuleBasedStateMachine):
    """Images by key: (row of POOL, camera, time, picture, id)."""

    engine = Embedded

    @initialize()
    def start(self):
        self.store = self.engine()
        self.model = {}
        self.gone = set()
        self.deleted = 0
        self.last_id = -1

    def teardown(self):
        self.store.remove()

    @property
    def gallery(self):
        return self.store.gallery

    def passing(self, where):
        def test(key):
            row, camera, time, _, _ = self.model[key]
            return (
                (not where.camera or camera in where.camera)
                and camera not in where.not_camera
                and (where.start is None or (time is not None and time >= where.start))
                and (where.end is None or (time is not None and time < where.end))
                and (
                    where.min_reliability is None
                    or POOL.reliability[row] >= np.float32(where.min_reliability)
                )
            )

        return [key for key in self.model if test(key)]

    wheres = st.builds(
        lambda window, **more: Where(**window, **more),
        window=st.sampled_from(WINDOWS),
        camera=st.lists(st.sampled_from(CAMERAS), max_size=2),
        not_camera=st.lists(st.sampled_from(CAMERAS), max_size=1),
        min_reliability=st.none() | st.just(0.5),
    )

    @rule(
        keys=st.lists(KEYS, min_size=1, max_size=4),
        rows=st.lists(st.integers(0, 39), min_size=4, max_size=4),
        camera=st.sampled_from(CAMERAS),
        time=st.none() | st.integers(0, 9),
        picture=st.none() | st.just(b"\xff\xd8 picture"),
    )
    def add(self, keys, rows, camera, time, picture):
        new = [Item(key=key, camera=camera, time=time, thumbnail=picture) for key in keys]
        embedding = POOL.take(np.array(rows[: len(keys)]))
        if len(set(keys)) < len(keys) or set(keys) & set(self.model):
            with pytest.raises(GalleryError):
                self.gallery.add(new, embedding)
            return
        ids = self.gallery.add(new, embedding).tolist()
        assert ids == sorted(set(ids))
        assert ids[0] > self.last_id
        self.last_id = ids[-1]
        for key, row, number in zip(keys, rows, ids, strict=False):
            self.model[key] = (row, camera, time, picture, number)

    @rule(keys=st.lists(KEYS, max_size=4))
    def delete(self, keys):
        count = len(set(keys) & set(self.model))
        if set(keys) - set(self.model):
            with pytest.raises(GalleryError):
                self.gallery.delete(keys)
        assert self.gallery.delete(keys, on_missing="skip") == count
        self.gone |= set(keys) & set(self.model)
        for key in keys:
            self.model.pop(key, None)
        self.deleted += count

    @rule(where=wheres)
    def delete_where(self, where):
        if where.is_empty:
            return
        gone = self.passing(where)
        assert self.gallery.delete_where(where) == len(gone)
        self.gone |= set(gone)
        for key in gone:
            del self.model[key]
        self.deleted += len(gone)

    @rule()
    def purge(self):
        assert self.gallery.purge() == self.deleted
        self.deleted = 0

    @rule(age=st.integers(0, 9))
    def expire(self, age):
        # Images without a time were added just now.
        gone = [key for key, one in self.model.items() if one[2] is not None and one[2] < age]
        assert self.gallery.expire(RETENTION_DAYS * DAY_S + age) == len(gone)
        self.gone |= set(gone)
        for key in gone:
            del self.model[key]
        self.deleted = 0

    @rule()
    def reopen(self):
        self.store.reopen()
        if not self.store.is_to_the_bit:
            self.deleted = 0  # a server does not tell

    @rule(row=st.integers(0, 39), k=st.integers(1, 9), where=st.just(Where()) | wheres)
    def search(self, row, k, where):
        answer = self.gallery.search(POOL.take(slice(row, row + 1)), k=k, where=where)[0]
        passing = self.passing(where)
        expected = sorted(
            (literal_pair(POOL, row, POOL, self.model[key][0], "weighted", "sqeuclidean", 0.5), at)
            for at, key in enumerate(passing)
        )[:k]
        assert answer.exact
        assert answer.num_compared == len(passing)
        found = [hit.distance for hit in answer.hits]
        np.testing.assert_allclose(found, [d for d, _ in expected], atol=1e-5)
        if self.store.is_to_the_bit:
            assert [hit.key for hit in answer.hits] == [passing[at] for _, at in expected]
        for hit in answer.hits:
            stored, camera, time, _, number = self.model[hit.key]
            own = literal_pair(POOL, row, POOL, stored, "weighted", "sqeuclidean", 0.5)
            assert hit.distance == pytest.approx(own, abs=1e-5)
            assert (hit.camera, hit.time, hit.id) == (camera, time, number)
            assert hit.reliability == POOL.reliability[stored]
            assert hit.native_size == tuple(POOL.native_sizes[stored].tolist())

    @rule(where=wheres, start=st.integers(0, 3), limit=st.none() | st.integers(0, 4))
    def list(self, where, start, limit):
        passing = self.passing(where)
        listed = self.gallery.entries(where=where, start=start, limit=limit)
        stop = None if limit is None else start + limit
        assert [entry.key for entry in listed] == passing[start:stop]
        assert [*self.gallery.keys(where=where)] == passing

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def look(self, data):
        key = data.draw(st.sampled_from(sorted(self.model)))
        row, camera, time, picture, number = self.model[key]
        assert self.gallery.thumbnail(key) == picture
        entry = self.gallery.entry(key)
        assert (entry.id, entry.camera, entry.time) == (number, camera, time)
        assert entry.norms is None
        assert entry.has_thumbnail == (picture is not None)
        stored = self.gallery.embedding([key])
        np.testing.assert_allclose(stored.vectors[0], POOL.vectors[row], atol=1e-6)
        np.testing.assert_array_equal(stored.quality[0], POOL.quality[row])

    @rule(keys=st.lists(KEYS, max_size=4))
    def remember(self, keys):
        told = self.gallery.was_deleted(keys).tolist()
        assert told == [key in self.gone for key in keys]

    @invariant()
    def counts(self):
        if not hasattr(self, "store"):
            return
        stats = self.gallery.stats()
        assert (stats.num_images, stats.num_deleted) == (len(self.model), self.deleted)
        cameras = [one[1] for one in self.model.values()]
        assert stats.cameras == {name: cameras.count(name) for name in sorted(set(cameras))}
        times = [one[2] for one in self.model.values() if one[2] is not None]
        assert (stats.first_time, stats.last_time) == (
            min(times, default=None),
            max(times, default=None),
        )

    @rule()
    def verify(self):
        self.gallery.verify()


def machine(kind, *, examples, steps):
    case = type(kind.__name__, (Machine,), {"engine": kind}).TestCase
    case.settings = settings(max_examples=examples, stateful_step_count=steps, deadline=None)
    return case


TestEmbedded = machine(Embedded, examples=8, steps=20)
TestAccelerated = machine(Accelerated, examples=4, steps=20)
TestMemory = machine(Memory, examples=5, steps=20)
TestEmbeddedLong = pytest.mark.slow(machine(Embedded, examples=100, steps=40))
TestMemoryLong = pytest.mark.slow(machine(Memory, examples=60, steps=40))
if Server.url:
    TestServer = machine(Server, examples=20, steps=30)
