import os

import numpy as np
import pytest
from inference.small import noise
from PIL import Image

from resolute.core.errors import DatasetError
from resolute.inference.folder import list_images, stream


def make(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise(8, 4)).save(path, "PNG")


def test_listing_is_sorted_and_counts_side_files(tmp_path):
    make(tmp_path, "b/2.png", "b/10.png", "a.png", "B.png", "odd.tiff", "noending")
    (tmp_path / ".hidden").mkdir()
    make(tmp_path / ".hidden", "c.png")
    for name in ("README", "notes.txt", "Thumbs.db", ".DS_Store"):
        (tmp_path / name).write_text("x")
    listing = list_images(tmp_path)
    assert listing.keys == ("B.png", "a.png", "b/10.png", "b/2.png", "noending", "odd.tiff")
    assert listing.num_ignored == 4
    assert listing.path("b/2.png").is_file()


def test_links_in_circles_end(tmp_path):
    make(tmp_path, "x/a.png")
    (tmp_path / "x" / "up").symlink_to(tmp_path)
    (tmp_path / "y").symlink_to(tmp_path / "x")
    assert list_images(tmp_path).keys == ("x/a.png", "y/a.png")


def test_folders_without_images(tmp_path):
    with pytest.raises(DatasetError, match="no images there"):
        list_images(tmp_path)
    with pytest.raises(DatasetError, match="no such folder"):
        list_images(tmp_path / "nowhere")


@pytest.mark.skipif(os.uname().sysname != "Linux", reason="file systems that take any bytes")
def test_names_that_are_not_text(tmp_path):
    (tmp_path / os.fsdecode(b"\xff.png")).write_bytes(b"x")
    with pytest.raises(DatasetError, match="not UTF-8; rename the file"):
        list_images(tmp_path)


def test_stream_raises_or_names_what_is_broken(tmp_path):
    make(tmp_path, *(f"{i}.png" for i in range(5)))
    (tmp_path / "2.png").write_bytes(b"broken")
    keys = list_images(tmp_path).keys
    pictures = list(stream(tmp_path, keys, on_error="skip"))
    assert [p.key for p in pictures] == list(keys)
    assert [p.pixels is None for p in pictures] == [False, False, True, False, False]
    assert "2.png" in pictures[2].error
    assert np.array_equal(pictures[0].pixels, noise(8, 4))
    with pytest.raises(DatasetError, match=r"2.png: expected a JPEG"):
        list(stream(tmp_path, keys))
