import errno
import os
import pickle
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from data.sources import ArraySource, picture, record

from resolute.core.errors import DatasetError, ShapeError
from resolute.data import cache
from resolute.data.cache import PixelStore, default_folder, store_digest
from resolute.data.decode import FileSource

SIZES = [(32, 16), (5, 3), (1, 1), (17, 40)]


def records(count=9):
    return [record(i, i % 2, size=SIZES[i % 4]) for i in range(count)]


@dataclass(frozen=True)
class Counting(ArraySource):
    """Counts how often it is decoded."""

    calls: tuple = ()

    def pixels(self):
        self.calls[0].append(self.name)
        return self.array


@dataclass(frozen=True)
class Broken(ArraySource):
    def pixels(self):
        raise DatasetError(f"{self.name}: truncated")


def counting(wanted):
    calls = []
    made = [replace(r, source=Counting(r.source.array, r.key, (calls,))) for r in wanted]
    return made, calls


@pytest.mark.parametrize("is_on_disk", [False, True])
def test_a_store_gives_back_every_pixel(tmp_path, is_on_disk):
    wanted = records(300)
    store = PixelStore.open(wanted, tmp_path if is_on_disk else None)
    assert len(store) == 300
    assert store.sizes.tolist() == [list(SIZES[i % 4]) for i in range(300)]
    for i, r in enumerate(wanted):
        np.testing.assert_array_equal(store.pixels(i), r.source.pixels())
        assert store.height(i) == r.source.pixels().shape[0]


def test_images_are_decoded_once_and_for_all(tmp_path):
    wanted, calls = counting(records())
    PixelStore.open(wanted, tmp_path)
    assert sorted(calls) == sorted(r.key for r in wanted)
    again = PixelStore.open(wanted, tmp_path)
    assert len(calls) == len(wanted)
    np.testing.assert_array_equal(again.pixels(3), wanted[3].source.array)
    assert [p.suffix for p in tmp_path.iterdir()] == [".pixels"]


def test_the_name_follows_the_pixels_and_their_order():
    wanted = records()
    changed = [replace(wanted[0], source=ArraySource(picture(99), wanted[0].key)), *wanted[1:]]
    digests = {store_digest(r) for r in (wanted, wanted[::-1], wanted[1:], changed)}
    assert len(digests) == 4
    relabelled = [replace(r, pid=r.pid + 1, camid=7) for r in wanted]
    assert store_digest(relabelled) == store_digest(wanted)


def test_one_relative_path_in_two_places_is_two_files(tmp_path, monkeypatch):
    tokens = set()
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.png").write_bytes(b"same size")
        os.utime(tmp_path / name / "x.png", (1, 1))
        monkeypatch.chdir(tmp_path / name)
        tokens.add(FileSource(Path("x.png")).token())
    assert len(tokens) == 2


def test_pixels_of_a_file_cannot_be_written_to(tmp_path):
    store = PixelStore.open(records(), tmp_path)
    with pytest.raises(ValueError, match="read-only"):
        store.pixels(0)[0, 0] = 0


@pytest.mark.parametrize("is_on_disk", [False, True])
def test_a_store_travels_to_another_process(tmp_path, is_on_disk):
    store = PixelStore.open(records(300), tmp_path if is_on_disk else None)
    frozen = pickle.dumps(store)
    assert (len(frozen) < 20_000) == is_on_disk
    back = pickle.loads(frozen)
    for i in range(300):
        np.testing.assert_array_equal(back.pixels(i), store.pixels(i))


def test_an_empty_store_is_no_error(tmp_path):
    assert len(PixelStore.open([], tmp_path)) == 0
    assert len(PixelStore.open([])) == 0


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-7],
        lambda data: data + b"\0",
        lambda data: data[:10],
        lambda data: b"",
        lambda data: b"X" + data[1:],
        lambda data: data[:20] + bytes([data[20] ^ 1]) + data[21:],
        lambda data: data[:-3] + bytes([data[-3] ^ 1]) + data[-2:],
    ],
    ids=["short", "long", "header", "empty", "magic", "numbers", "index"],
)
def test_a_damaged_file_is_written_anew(tmp_path, damage):
    wanted, calls = counting(records())
    PixelStore.open(wanted, tmp_path)
    (path,) = tmp_path.iterdir()
    good = path.read_bytes()
    path.write_bytes(damage(good))
    store = PixelStore.open(wanted, tmp_path)
    assert len(calls) == 2 * len(wanted)
    assert path.read_bytes() == good
    np.testing.assert_array_equal(store.pixels(5), wanted[5].source.array)


def test_a_store_under_another_name_is_not_taken_for_ones_own(tmp_path):
    wanted = records()
    PixelStore.open(wanted[::-1], tmp_path)
    (path,) = tmp_path.iterdir()
    path.rename(tmp_path / f"{store_digest(wanted)}.pixels")
    store = PixelStore.open(wanted, tmp_path)
    np.testing.assert_array_equal(store.pixels(0), wanted[0].source.pixels())


def test_broken_images_are_named_and_counted(tmp_path):
    wanted = [
        replace(r, source=Broken(picture(0), r.key)) if i % 2 else r
        for i, r in enumerate(records(15))
    ]
    for folder in (None, tmp_path):
        with pytest.raises(
            DatasetError,
            match=r"7 of 15 images cannot be used: cam1/0001_00\.png \(.*truncated\);.* and 2 more",
        ):
            PixelStore.open(wanted, folder)
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_picture_is_refused():
    grey = replace(records()[0], source=ArraySource(np.zeros((4, 4), np.uint8), "grey"))
    real = replace(records()[0], source=ArraySource(np.zeros((4, 4, 3)), "real"))
    none = replace(records()[0], source=ArraySource(np.zeros((0, 4, 3), np.uint8), "none"))
    with pytest.raises(
        DatasetError, match=r"3 of 3 .*expected RGB uint8, got uint8 of shape \(4, 4\)"
    ):
        PixelStore.open([grey, real, none])


def test_a_full_disk_says_what_to_do(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(cache.os, "fsync", full)
    with pytest.raises(DatasetError, match="the disk is full while caching 9 images; free space"):
        PixelStore.open(records(), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_says_so(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DatasetError, match="file: cannot be written: "):
        PixelStore.open(records(), tmp_path / "file")


def test_the_folder_is_the_users_cache(monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert default_folder() == Path("/somewhere/resolute/pixels")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/them")
    assert default_folder() == Path("/home/them/.cache/resolute/pixels")


def test_a_store_of_other_records_is_refused():
    wanted = records()
    store = PixelStore.open(wanted)
    store.check_holds(wanted)
    with pytest.raises(
        ShapeError, match="expected the 9 images of these records, got a store of 9"
    ):
        store.check_holds(wanted[::-1])
    with pytest.raises(ShapeError, match="expected the 8 images"):
        store.check_holds(wanted[1:])


def test_threads_do_not_change_the_order(tmp_path):
    @dataclass(frozen=True)
    class Slow(ArraySource):
        def pixels(self):
            time.sleep(0.02 if self.name.endswith("0000_00.png") else 0)
            return self.array

    wanted = [replace(r, source=Slow(r.source.array, r.key)) for r in records(20)]
    one = PixelStore.open(wanted, tmp_path / "a", threads=1)
    many = PixelStore.open(wanted, tmp_path / "b", threads=8)
    assert one.path.read_bytes() == many.path.read_bytes()
