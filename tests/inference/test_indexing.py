"""A gallery from a folder of images; what the command line tells is tested there."""

import os
import time
import weakref
from dataclasses import replace

import numpy as np
import pytest
from inference.small import noise, save_small
from PIL import Image

from resolute.core.errors import ConfigError, DatasetError
from resolute.core.types import Embedding
from resolute.inference.indexing import IndexOptions, index_folder
from resolute.inference.load import load
from resolute.retrieval.gallery import DAY_S, Gallery


def test_a_gallery_does_not_lie_among_its_images(tmp_path):
    model = load(save_small(tmp_path / "run"))
    crops = tmp_path / "crops"
    crops.mkdir()
    Image.fromarray(noise(40, 20)).save(crops / "a.png")
    for place in (crops, crops / "g", tmp_path / "x" / ".." / "crops" / "g"):
        with pytest.raises(ConfigError, match=r"lies among the images of .+; put it"):
            index_folder(model, crops, place)
    assert [path.name for path in crops.iterdir()] == ["a.png"]
    assert index_folder(model, crops, tmp_path / "crops-gallery").num_added == 1
    assert index_folder(model, crops, tmp_path / "crops-gallery").num_known == 1


def test_a_server_is_no_folder(tmp_path, monkeypatch):
    # Taken for a path, its address would lie below the working folder.
    monkeypatch.chdir(tmp_path)
    Image.fromarray(noise(40, 20)).save(tmp_path / "a.png")
    with pytest.raises(ConfigError, match="expected http://host:6333/collection"):
        index_folder(load(save_small(tmp_path / ".run")), tmp_path, "http://host")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return load(save_small(tmp_path_factory.mktemp("run")))


@pytest.fixture
def crops(tmp_path):
    folder = tmp_path / "crops"
    folder.mkdir()
    for i in range(3):
        Image.fromarray(noise(40, 20, seed=i)).save(folder / f"p{i}.png")
    return folder


def test_what_was_erased_is_not_put_back_unasked(model, crops, tmp_path):
    place, how = tmp_path / "g", IndexOptions(retention_days=30)
    assert index_folder(model, crops, place, options=how).num_added == 3
    with Gallery.open(place) as gallery:
        gallery.delete(["p1.png"])
    done = index_folder(model, crops, place, options=how)
    assert (done.num_added, done.num_known, done.num_deleted) == (0, 2, 1)
    with Gallery.open(place) as gallery:
        assert gallery.expire(time.time() + 31 * DAY_S) == 2
    done = index_folder(model, crops, place, options=how)
    assert (done.num_added, done.num_known, done.num_deleted) == (0, 0, 3)
    Image.fromarray(noise(40, 20)).save(crops / "p9.png")
    done = index_folder(model, crops, place, options=how)
    assert (done.num_added, done.num_deleted) == (1, 3)
    again = IndexOptions(with_deleted=True)
    done = index_folder(model, crops, place, options=again)
    assert (done.num_added, done.num_known, done.num_deleted) == (3, 1, 0)
    done = index_folder(model, crops, place, options=how)
    assert (done.num_added, done.num_known, done.num_deleted) == (0, 4, 0)


@pytest.mark.parametrize("is_there", [False, True])
def test_what_would_expire_at_once_is_not_embedded(model, crops, tmp_path, is_there):
    old = time.time() - 400 * DAY_S
    for name in ("p0.png", "p2.png"):
        os.utime(crops / name, (old, old))
    (crops / "p3.png").symlink_to(crops / "nowhere")
    how = IndexOptions(retention_days=30, is_timed=True, on_error="skip")
    place = tmp_path / "g"
    if is_there:
        other = tmp_path / "other"
        other.mkdir()
        Image.fromarray(noise(40, 20)).save(other / "q.png")
        index_folder(model, other, place, options=how)
        how = replace(how, retention_days=None)  # the gallery's counts
    done = index_folder(model, crops, place, options=how)
    assert (done.num_added, done.num_expired, len(done.skipped)) == (1, 2, 1)
    with Gallery.open(place) as gallery:
        assert "p1.png" in gallery
        assert gallery.expire() == 0
    # Where no time is known there is no age to tell.
    assert index_folder(model, crops, tmp_path / "h", options=replace(how, is_timed=False))


@pytest.mark.parametrize("is_long", [False, True])
def test_a_name_that_cannot_be_a_key_is_named_or_passed_over(model, crops, tmp_path, is_long):
    place = tmp_path / "g"
    folder = crops.joinpath(*["d" * 200] * 6) if is_long else crops
    folder.mkdir(parents=True, exist_ok=True)
    odd = folder / ("long.png" if is_long else "two\nlines\x1b[2J.png")
    Image.fromarray(noise(40, 20)).save(odd)
    quoted = repr(odd.relative_to(crops).as_posix())
    with pytest.raises(DatasetError) as caught:
        index_folder(model, crops, place)
    assert str(caught.value).startswith(f"{quoted}: the name is no key (key: expected 1 to 1024")
    assert str(caught.value).endswith("; rename the file")
    assert not place.exists()
    how = IndexOptions(on_error="skip")
    for count in (3, 0):
        done = index_folder(model, crops, place, options=how)
        assert done.num_added == count
        assert done.skipped == (str(caught.value),)
    with Gallery.open(place) as gallery:
        assert sorted(gallery.keys()) == ["p0.png", "p1.png", "p2.png"]


@pytest.mark.parametrize("days", [-1, 0, float("nan")])
def test_a_retention_is_checked_before_anything_is_embedded(days):
    with pytest.raises(ConfigError, match="retention: expected days above 0"):
        IndexOptions(retention_days=days)


def test_large_images_are_in_memory_by_their_bytes(crops, tmp_path, monkeypatch):
    live, most = 0, 0

    def decoded(_):
        nonlocal live, most
        pixels = np.zeros((1000, 1000, 3), dtype=np.uint8)

        def gone():
            nonlocal live
            live -= pixels_bytes

        pixels_bytes = pixels.nbytes
        live += pixels_bytes
        most = max(most, live)
        weakref.finalize(pixels, gone)
        return pixels

    class Means:
        fingerprint = "means"

        def embed_pixels(self, pictures, batch_size):
            vectors = np.array([[[1.0]] for _ in pictures], dtype=np.float32)
            return Embedding(vectors=vectors, quality=vectors[:, 0])

    monkeypatch.setattr("resolute.inference.folder.decode_image", decoded)
    for i in range(250):
        (crops / f"{i}.jpg").touch()
    how = IndexOptions(has_thumbnails=False)
    assert index_folder(Means(), crops, tmp_path / "g", options=how).num_added == 253
    assert most < 240e6  # a window, and what is decoded ahead
