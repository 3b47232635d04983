"""Kills, damage, a full disk: what was acknowledged stays, what is broken is said."""

import contextlib
import errno
import json
import os
import resource
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from retrieval.galleries import draw, filled, items, nearest, same
from waiting import wait_until

import resolute.retrieval.embedded as embedded
import resolute.retrieval.files as files
import resolute.retrieval.turnover as turnover
from resolute.core.errors import GalleryError
from resolute.retrieval.gallery import Gallery
from resolute.retrieval.types import Item, VectorSpace

DIM = 16
POOL = draw(7, 64, dim=DIM)
SPACE = VectorSpace.of(POOL, fingerprint="model")


def row_of(key):
    return int(key[1:].split("-")[0]) % len(POOL)


def write_for_ever(folder, journal, seed):
    """In a child: write, and after each acknowledgement note it."""
    rng = np.random.default_rng(seed)
    turnover.rows_per_segment = lambda _: 20
    gallery = Gallery.open(folder)
    log = os.open(journal, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    alive = list(gallery.keys())
    count = max([int(key.split("-")[1]) for key in alive], default=0) + 1000 * (seed + 1)
    while True:
        action = rng.random()
        if action < 0.6 or len(alive) < 5:
            keys = [f"k{(count + i) % 64}-{count + i}" for i in range(rng.integers(1, 10))]
            count += len(keys)
            os.write(log, f"try+ {' '.join(keys)}\n".encode())
            new = [Item(key=k, camera=f"c{row_of(k) % 3}", thumbnail=k.encode() * 9) for k in keys]
            gallery.add(new, POOL.take(np.array([row_of(key) for key in keys])))
            os.write(log, f"did+ {' '.join(keys)}\n".encode())
            alive += keys
        elif action < 0.85:
            keys = rng.choice(alive, rng.integers(1, 6), replace=False).tolist()
            os.write(log, f"try- {' '.join(keys)}\n".encode())
            gallery.delete(keys)
            os.write(log, f"did- {' '.join(keys)}\n".encode())
            alive = [key for key in alive if key not in keys]
        else:
            gallery.purge()


def num_lines(journal):
    return journal.read_bytes().count(b"\n")


def expected_after(journal):
    """Keys that must be there, and those of the one unfinished call, which may."""
    sure, maybe = set(), set()
    for line in journal.read_text().splitlines():
        word, *keys = line.split(" ")
        maybe = set(keys) if word.startswith("try") else set()
        if word == "did+":
            sure |= set(keys)
        if word == "did-":
            sure -= set(keys)
    return sure, maybe


def check_gallery(folder, journal):
    sure, maybe = expected_after(journal)
    with Gallery.open(folder) as gallery:
        gallery.verify()
        there = set(gallery.keys())
        assert sure - maybe <= there <= sure | maybe
        assert maybe <= there or not maybe & there  # all of the unfinished call or nothing
        for key in sorted(there)[:20]:
            np.testing.assert_array_equal(
                gallery.embedding([key]).vectors[0], POOL.vectors[row_of(key)]
            )
            assert gallery.thumbnail(key) == key.encode() * 9
        order = list(gallery.keys())
        stored = POOL.take(np.array([row_of(key) for key in order], dtype=np.int64))
        query = draw(3, 1, dim=DIM)
        same(gallery.search(query, k=5)[0], nearest(query, stored, 5)[0], order)
        gallery.lock()  # sweeps up
        gallery.verify()
    # The next child starts from what is there now.
    journal.write_text(f"did+ {' '.join(sorted(there))}\n" if there else "")


def kill_often(tmp_path, times):
    folder, journal = tmp_path / "g", tmp_path / "journal"
    Gallery.create(folder, space=SPACE).close()
    journal.write_text("")
    rng = np.random.default_rng(1)
    for seed in range(times):
        # Kill it as it opens the gallery, or as it works: a little after that many lines.
        wanted = num_lines(journal) + rng.integers(0, 9)
        child = os.fork()
        if child == 0:
            try:
                write_for_ever(folder, journal, seed)
            finally:
                os._exit(7)
        try:
            wait_until(lambda least=wanted: num_lines(journal) >= least, seconds=60)
            time.sleep(rng.uniform(0.0, 0.005))
        finally:
            os.kill(child, signal.SIGKILL)
            _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL, "the child ended by itself"
        check_gallery(folder, journal)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_killing_the_writer_loses_nothing(tmp_path):
    kill_often(tmp_path, 10)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_killing_the_writer_a_hundred_times_loses_nothing(tmp_path):
    kill_often(tmp_path, 150)


class _Cut(BaseException):
    """The process ends here."""


def end_at(monkeypatch, stop):
    """End the process at the given call that changes the disk, counted from 1."""
    calls = []

    def wrapped(function):
        def call(*args, **kwargs):
            calls.append(function)
            if len(calls) == stop:
                raise _Cut
            return function(*args, **kwargs)

        return call

    monkeypatch.setattr(files, "_sync", wrapped(files._sync))
    for module in (files, embedded, turnover):
        monkeypatch.setattr(module, "sync_folder", wrapped(module.sync_folder))
    for name in ("replace", "unlink"):
        monkeypatch.setattr(Path, name, wrapped(getattr(Path, name)))


@pytest.mark.parametrize("action", ["add", "delete", "purge"])
def test_ending_between_any_two_writes(tmp_path, monkeypatch, action):
    monkeypatch.setattr("resolute.retrieval.turnover.rows_per_segment", lambda _: 15)
    start = POOL.take(slice(20))
    with filled(tmp_path / "start", start) as gallery:
        gallery.delete(["k0003", "k0011"])
    before = {f"k{i:04d}" for i in range(20)} - {"k0003", "k0011"}
    new = {f"k{i:04d}" for i in range(30, 42)}
    after = {"add": before | new, "delete": before - {"k0005", "k0019"}, "purge": before}[action]
    for stop in range(1, 90):
        folder = tmp_path / f"g{stop}"
        shutil.copytree(tmp_path / "start", folder)
        gallery = Gallery.open(folder)
        with monkeypatch.context() as patch:
            end_at(patch, stop)
            try:
                if action == "add":
                    gallery.add(items(12, start=30), POOL.take(slice(30, 42)))
                elif action == "delete":
                    gallery.delete(["k0005", "k0019"])
                else:
                    gallery.purge()
                is_done = True
            except _Cut:
                is_done = False
        gallery.close()
        with Gallery.open(folder) as again:
            again.verify()
            assert set(again.keys()) in (before, after)
            again.add([Item(key="more")], POOL.take(slice(1)))
            again.verify()
        if is_done:
            break
    assert stop > 3
    assert is_done


def test_ending_while_creating_can_be_created_again(tmp_path, monkeypatch):
    for stop in range(1, 9):
        folder = tmp_path / f"g{stop}"
        with monkeypatch.context() as patch:
            end_at(patch, stop)
            try:
                Gallery.create(folder, space=SPACE).close()
                break
            except _Cut:
                pass
        if not (folder / "manifest.json").exists():
            Gallery.create(folder, space=SPACE).close()
        Gallery.open(folder).verify()
        assert not list(folder.rglob("*.partial"))
    assert stop > 2


def every_file(folder):
    return sorted(p for p in folder.rglob("*") if p.is_file() and p.name != "lock")


@pytest.fixture
def whole(tmp_path):
    """A gallery in two segments with a deleted image, and what it answers."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("resolute.retrieval.turnover.rows_per_segment", lambda _: 25)
        folder = tmp_path / "whole"
        with Gallery.create(folder, space=SPACE) as gallery:
            pictures = items(40, thumbnail=b"\xff\xd8 a picture")
            gallery.add(pictures, POOL.take(slice(40)))
            gallery.delete(["k0003", "k0030"])
    return folder


def use(folder):
    with Gallery.open(folder) as gallery:
        answers = gallery.search(draw(1, 2, dim=DIM), k=40)
        keys = list(gallery.keys())
        return answers, keys, [gallery.thumbnail(key) for key in keys], gallery.stats().cameras


def test_flipped_bytes_in_any_file_are_found(whole, tmp_path):
    good = use(whole)
    rng = np.random.default_rng(0)
    for path in every_file(whole):
        size = path.stat().st_size
        for _ in range(6):
            copy = tmp_path / "copy"
            shutil.copytree(whole, copy)
            target = copy / path.relative_to(whole)
            data = bytearray(target.read_bytes())
            at = rng.integers(size)
            data[at] ^= 1 << int(rng.integers(8))
            target.write_bytes(data)
            with pytest.raises(GalleryError, match=path.name.split(".")[0]):
                Gallery.open(copy).verify()
            # Using it without verifying gives the error or the right answer.
            with contextlib.suppress(GalleryError):
                assert use(copy) == good
            shutil.rmtree(copy)


def test_truncated_and_missing_files_are_found(whole, tmp_path):
    for path in every_file(whole):
        size = path.stat().st_size
        for length in {0, 1, size // 2, size - 1, None}:
            copy = tmp_path / "copy"
            shutil.copytree(whole, copy)
            target = copy / path.relative_to(whole)
            if length is None:
                target.unlink()
            else:
                os.truncate(target, length)
            with pytest.raises(GalleryError):
                Gallery.open(copy)
            shutil.rmtree(copy)


def test_bytes_beyond_the_end_do_not_count(whole, tmp_path):
    good = use(whole)
    for path in every_file(whole):
        if path.name != "manifest.json":
            with path.open("ab") as file:
                file.write(b"left by a killed writer")
    (whole / "segments" / "00000099.stream0").write_bytes(b"orphan")
    (whole / "manifest.json.partial").write_bytes(b"half")
    assert use(whole) == good
    with Gallery.open(whole) as gallery:
        gallery.lock()
    for path in every_file(whole):
        assert b"killed writer" not in path.read_bytes()
    assert not list(whole.rglob("*.partial"))
    assert not (whole / "segments" / "00000099.stream0").exists()


def test_files_of_another_gallery_are_found(whole, tmp_path):
    # Same kinds, same sizes, other bytes; and kinds exchanged.
    with filled(tmp_path / "other", draw(8, 40, dim=DIM)) as gallery:
        gallery.delete(["k0001"])
    target = whole / "segments" / "00000001.stream0"
    target.write_bytes((whole / "segments" / "00000001.stream1").read_bytes())
    with pytest.raises(GalleryError, match="not the stream0 file of segment 00000001"):
        Gallery.open(whole)
    target.write_bytes((tmp_path / "other" / "segments" / "00000001.stream0").read_bytes())
    with Gallery.open(whole) as gallery, pytest.raises(GalleryError, match="damaged between"):
        gallery.search(draw(1, 1, dim=DIM))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}", "damaged: KeyError"),
        ("[]", "damaged: AttributeError|damaged: TypeError"),
        ("not json", "damaged: JSONDecodeError"),
        ('{"format": "other"}', "not the manifest of a gallery"),
        ('{"format": "resolute gallery", "version": 99}', "expected version 1, got 99"),
    ],
)
def test_a_foreign_manifest_is_refused(whole, text, message):
    files.write_text(whole / "manifest.json", text)
    with pytest.raises(GalleryError, match=message):
        Gallery.open(whole)


def test_names_in_the_manifest_do_not_leave_the_folder(whole):
    text = files.read_text(whole / "manifest.json")
    files.write_text(whole / "manifest.json", text.replace("00000001", "../../0001"))
    with pytest.raises(GalleryError, match="damaged"):
        Gallery.open(whole)


def test_a_block_is_checked_once_and_the_last_one_again_when_it_grew(whole, monkeypatch):
    checks = []
    column = files.Column
    original = column._check
    monkeypatch.setattr(column, "_check", lambda self, b: (checks.append(b), original(self, b))[1])
    with Gallery.open(whole) as gallery:
        assert checks == []
        gallery.search(draw(1, 1, dim=DIM))
        assert checks
        checks.clear()
        gallery.search(draw(1, 1, dim=DIM))
        assert checks == []
        gallery.add([Item(key="new")], POOL.take(slice(1)))
        checks.clear()
        gallery.search(draw(1, 1, dim=DIM))
        assert 0 < len(checks) <= 4  # the grown segment alone


class FullDisk:
    """Lets some writes through, then the disk is full."""

    def __init__(self, monkeypatch, allowed):
        self.allowed = allowed
        original = files._sync

        def sync(file):
            self.allowed -= 1
            if self.allowed < 0:
                raise OSError(errno.ENOSPC, "No space left on device")
            original(file)

        monkeypatch.setattr(files, "_sync", sync)


# Files a call makes durable: those that grow or are new, the list of deleted keys, the manifest.
WRITES = {"add": 4 + 1, "delete": 2 + 1 + 1, "purge": 6 + 5 + 5 + 1}


@pytest.mark.parametrize("action", ["add", "delete", "purge"])
@pytest.mark.parametrize("allowed", [0, 1, 2, 3, 4, 5, 9, 15, 16, 17])
def test_a_full_disk_leaves_the_old_state(whole, action, allowed):
    good = use(whole)
    with Gallery.open(whole) as gallery:
        gallery.lock()
        calls = {
            "add": lambda: gallery.add(items(30, start=50), POOL.take(slice(30))),
            "delete": lambda: gallery.delete(["k0001", "k0035"]),
            "purge": gallery.purge,
        }
        with pytest.MonkeyPatch.context() as patch:
            FullDisk(patch, allowed)
            if allowed >= WRITES[action]:
                calls[action]()
                return
            with pytest.raises(GalleryError, match=r"disk is full, .+ nothing has changed"):
                calls[action]()
        assert gallery.search(draw(1, 2, dim=DIM), k=40) == good[0]
        assert use(whole) == good
        # And there is room again.
        gallery.add(items(30, start=50), POOL.take(slice(30)))
        assert gallery.delete(["k0001", "k0035"]) == 2
        assert gallery.purge() == 4
        gallery.verify()
        assert len(gallery) == 66


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_can_be_searched(whole):
    good = use(whole)
    for path in [whole, *whole.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        assert use(whole) == good
        with Gallery.open(whole) as gallery, pytest.raises(GalleryError, match="locking was not"):
            gallery.delete(["k0001"])
    finally:
        for path in [whole, *whole.rglob("*")]:
            path.chmod(0o755)


def traces(folder, embedding, row, key, picture):
    """Every file that holds a vector (any stretch of 4 numbers), the key or the picture."""
    needles = [key.encode(), picture]
    for stream in range(2):
        vector = embedding.vectors[row, stream].astype("<f4").tobytes()
        needles += [vector[i : i + 16] for i in range(0, len(vector) - 15, 4)]
    return [
        p.name for p in every_file(folder) if any(needle in p.read_bytes() for needle in needles)
    ]


@pytest.mark.parametrize("how", ["keys", "where", "expire"])
def test_purge_erases_every_byte(tmp_path, monkeypatch, how):
    monkeypatch.setattr("resolute.retrieval.turnover.rows_per_segment", lambda _: 25)
    folder, embedding = tmp_path / "g", POOL.take(slice(60))
    new = [
        Item(
            key=f"person/{i:04d}.jpg",
            camera="secret-camera" if i == 30 else "hall",
            time=100.0 if i == 30 else 1e9,
            thumbnail=f"picture of {i:04d}".encode() * 20,
        )
        for i in range(60)
    ]
    gone, stays = (
        (30, "person/0030.jpg", b"picture of 0030"),
        (31, "person/0031.jpg", b"picture of 0031"),
    )
    with Gallery.create(folder, space=SPACE, retention_days=1) as gallery:
        gallery.add(new[:40], embedding.take(slice(40)))
        gallery.add(new[40:], embedding.take(slice(40, 60)))
        assert len(traces(folder, embedding, *gone)) == 4  # two streams, keys, thumbnails
        if how == "keys":
            gallery.delete(["person/0030.jpg"])
        elif how == "where":
            gallery.delete_where(embedded.Where(camera="secret-camera"))
        if how != "expire":
            assert len(traces(folder, embedding, *gone)) == 4  # hidden is not erased
            assert gallery.purge() == 1
        else:
            assert gallery.expire(1e9 + 1000) == 1
        assert traces(folder, embedding, *gone) == []
        assert all(b"secret-camera" not in p.read_bytes() for p in every_file(folder))
        assert len(traces(folder, embedding, *stays)) == 4
        gallery.verify()


def test_a_purge_that_cannot_remove_files_removes_them_later(tmp_path):
    folder = tmp_path / "g"
    with filled(folder, POOL.take(slice(5))) as gallery:
        gallery.delete(["k0000"])
        with pytest.MonkeyPatch.context() as patch:

            def refuse(path):
                raise PermissionError(errno.EPERM, "Operation not permitted", path)

            patch.setattr(Path, "unlink", refuse)
            for _ in range(2):
                with pytest.raises(GalleryError, match=r"could not be removed: .+; purge again"):
                    gallery.purge()
            assert "k0000" not in gallery
            assert traces(folder, POOL, 0, "k0000", b"no picture")
        gallery.purge()
        assert traces(folder, POOL, 0, "k0000", b"no picture") == []
        gallery.verify()


def test_what_a_failed_adding_left_is_erased_too(tmp_path):
    folder = tmp_path / "g"
    with filled(folder, POOL.take(slice(5))) as gallery:
        with pytest.MonkeyPatch.context() as patch:
            FullDisk(patch, 3)
            with pytest.raises(GalleryError, match="disk is full"):
                gallery.add(items(1, start=9, thumbnail=b"never stored"), POOL.take(slice(9, 10)))
        gallery.delete(["k0000"])
        gallery.purge()
        assert traces(folder, POOL, 9, "k0009", b"never stored") == []


@contextlib.contextmanager
def few_descriptors(limit):
    """Let this process open that many files beside those it has open."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = os.open(os.devnull, os.O_RDONLY)
    os.close(taken)
    resource.setrlimit(resource.RLIMIT_NOFILE, (taken + limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_expiring_needs_few_descriptors(tmp_path, monkeypatch):
    monkeypatch.setattr("resolute.retrieval.turnover.rows_per_segment", lambda _: 3)
    folder, embedding = tmp_path / "g", POOL.take(slice(60))
    new = [
        Item(key=f"person-{i}", time=0.0 if i % 3 == 0 else 9e9, thumbnail=b"picture")
        for i in range(60)
    ]
    with Gallery.create(folder, space=SPACE, retention_days=30) as gallery:
        gallery.add(new, embedding)
    with few_descriptors(20):
        gallery = Gallery.open(folder)
        assert gallery.expire(now=1e9) == 20
        assert "person-30" not in gallery
        assert len(gallery.search(POOL.take(slice(1)), k=60)[0].hits) == 40
        gallery.verify()
    gallery.close()
    assert traces(folder, embedding, 30, "person-30", b"nothing") == []


def test_too_many_open_files_are_called_that(whole):
    with (
        few_descriptors(0),
        pytest.raises(GalleryError, match=r"cannot be read: too many open files; close some"),
    ):
        Gallery.open(whole)


def test_no_answer_comes_from_before_a_deletion(whole, monkeypatch):
    # The deletion is done, the files of the new state cannot be opened: then there is no answer.
    def refuse(*_):
        raise GalleryError("cannot be read: too many open files")

    query = POOL.take(slice(1, 2))
    with Gallery.open(whole) as gallery:
        gallery.lock()
        assert gallery.search(query, k=1)[0].hits[0].key == "k0001"
        with monkeypatch.context() as patch:
            patch.setattr(embedded, "Snapshot", refuse)
            with pytest.raises(GalleryError, match="deleting was done, but then: cannot be read"):
                gallery.delete(["k0001"])
            patch.setattr(embedded, "load_snapshot", refuse)
            for call in (
                lambda: gallery.search(query, k=1),
                lambda: gallery.entry("k0001"),
                lambda: gallery.contains(["k0001"]),
            ):
                with pytest.raises(GalleryError, match="too many open files"):
                    call()
        assert gallery.search(query, k=1)[0].hits[0].key != "k0001"
        assert gallery.purge() == 3
    assert traces(whole, POOL, 1, "k0001", b"nothing") == []


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="only Linux lists maps")
def test_closing_gives_back_the_files(whole):
    gallery = Gallery.open(whole)
    found = gallery.search(POOL.take(slice(1)), k=3)
    assert str(whole) in Path("/proc/self/maps").read_text()
    gallery.close()
    assert str(whole) not in Path("/proc/self/maps").read_text()
    with Gallery.open(whole) as gallery:
        assert gallery.search(POOL.take(slice(1)), k=3) == found


def test_a_gallery_without_a_list_of_deleted_keys_is_read(whole):
    # The first ones had none.
    good = use(whole)
    document = json.loads(files.read_text(whole / "manifest.json"))
    del document["erased"]
    files.write_text(whole / "manifest.json", json.dumps(document))
    (whole / "erased").unlink()
    assert use(whole) == good
    keys = ["k0003", "k0005", "k0030"]
    with Gallery.open(whole) as gallery:
        assert gallery.was_deleted(keys).tolist() == [True, False, True]
        assert gallery.purge() == 2
        assert gallery.was_deleted(keys).tolist() == [True, False, True]
        gallery.delete(["k0005"])
        assert gallery.purge() == 1
    with Gallery.open(whole) as gallery:
        assert gallery.was_deleted(keys).all()
        gallery.verify()
    assert (whole / "erased").stat().st_size == 64 + 8 * len(keys)  # each listed once


def test_opening_reads_no_data(tmp_path, monkeypatch):
    with filled(tmp_path / "g", POOL) as gallery:
        gallery.delete(["k0001"])
    monkeypatch.setattr(files.Column, "read", None)
    assert Gallery.open(tmp_path / "g").space == SPACE
