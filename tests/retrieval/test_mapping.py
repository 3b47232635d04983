"""Files in memory: no descriptor is kept, and the map goes with its last array."""

import gc
import os
from pathlib import Path

import pytest

from resolute.retrieval.mapping import map_file

MAPS, DESCRIPTORS = Path("/proc/self/maps"), Path("/proc/self/fd")


def mapped(path, num_bytes):
    with path.open("rb") as file:
        return map_file(file, num_bytes)


def test_the_beginning_of_a_file_is_read_even_when_it_is_removed(tmp_path):
    path, content = tmp_path / "file", os.urandom(10_000)
    path.write_bytes(content)
    part = mapped(path, 9_000)[64:]
    path.unlink()
    assert part.tobytes() == content[64:9_000]
    with pytest.raises(ValueError, match="read-only"):
        part[0] = 1
    with pytest.raises(ValueError, match="read-only"):
        part.view("<u4")[0] = 1


@pytest.mark.skipif(not DESCRIPTORS.exists(), reason="only Linux lists descriptors and maps")
def test_nothing_is_kept_but_the_map_and_that_goes_with_its_last_array(tmp_path):
    path = tmp_path / "a file of its own name"
    path.write_bytes(b"x" * 5_000)
    before = len(list(DESCRIPTORS.iterdir()))
    views = [mapped(path, 5_000)[i:].view("u1") for i in range(20)]
    assert len(list(DESCRIPTORS.iterdir())) == before
    assert MAPS.read_text().count(path.name) >= 1
    del views[1:]
    gc.collect()
    assert views[0].tobytes() == b"x" * 5_000
    del views
    gc.collect()
    assert path.name not in MAPS.read_text()


def test_a_refusal_is_an_error(tmp_path):
    (tmp_path / "empty").touch()
    with pytest.raises(OSError, match="Invalid argument"):
        mapped(tmp_path / "empty", 0)
