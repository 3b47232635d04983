import json
import os
import pathlib
import sys

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from resolute.core.errors import CheckpointError
from resolute.core.tensorfile import read_document, read_tensors, write_tensors

TENSORS = {
    "weight": torch.arange(24, dtype=torch.float32).reshape(1, 2, 3, 4),
    "half": torch.ones(3, dtype=torch.bfloat16),
    "count": torch.tensor(7),
    "none": torch.zeros(0, 2),
    "bytes": torch.arange(5, dtype=torch.uint8),
}


@pytest.fixture
def path(tmp_path):
    write_tensors(tmp_path / "a.safetensors", TENSORS, {"note": "é", "n": [1, 2]}, kind="thing")
    return tmp_path / "a.safetensors"


def test_tensors_and_document_come_back(path):
    tensors, document = read_tensors(path, kind="thing")
    assert tensors.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert torch.equal(tensors[name], tensor)
        assert tensors[name].dtype == tensor.dtype
    assert (document["note"], document["n"]) == ("é", [1, 2])
    assert read_document(path, kind="thing") == document


def test_any_safetensors_reader_can_open_it(path):
    with safe_open(path, framework="pt") as file:
        assert set(file.keys()) == set(TENSORS)
        assert json.loads(file.metadata()["resolute"])["note"] == "é"


def test_same_content_gives_the_same_bytes(path, tmp_path):
    again = tmp_path / "again.safetensors"
    write_tensors(again, TENSORS, {"note": "é", "n": [1, 2]}, kind="thing")
    assert again.read_bytes() == path.read_bytes()


def test_layout_views_and_ties_are_stored_plainly(tmp_path):
    base = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(1))
    tensors = {
        "last": base.to(memory_format=torch.channels_last),
        "turned": base.transpose(0, 1),
        "tied": base,
        "again": base,
        "part": base[1],
    }
    write_tensors(tmp_path / "x", tensors, {}, kind="thing")
    found, _ = read_tensors(tmp_path / "x", kind="thing")
    for name, tensor in tensors.items():
        assert torch.equal(found[name], tensor)
        assert found[name].is_contiguous()


def test_every_flipped_bit_and_every_truncation_is_found(path):
    blob = path.read_bytes()
    for position in range(len(blob)):
        damaged = bytearray(blob)
        damaged[position] ^= 1 << position % 8
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError):
            read_tensors(path, kind="thing")
    for length in range(0, len(blob), 7):
        path.write_bytes(blob[:length])
        with pytest.raises(CheckpointError, match="truncated"):
            read_tensors(path, kind="thing")
    path.write_bytes(blob + b"x")
    with pytest.raises(CheckpointError, match="truncated or overlong"):
        read_tensors(path, kind="thing")


def test_messages_name_file_and_remedy(path, tmp_path):
    blob = path.read_bytes()
    path.write_bytes(blob[:-1] + bytes([blob[-1] ^ 1]))
    with pytest.raises(
        CheckpointError, match=r"a\.safetensors: damaged: expected sha256 .* earlier"
    ):
        read_tensors(path, kind="thing")
    with pytest.raises(CheckpointError, match="missing: cannot be read: No such file"):
        read_tensors(tmp_path / "missing", kind="thing")
    with pytest.raises(CheckpointError, match="missing: cannot be read"):
        read_document(tmp_path / "missing", kind="thing")
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_tensors(tmp_path, kind="thing")
    with pytest.raises(CheckpointError, match="expected a file of kind 'other', got 'thing'"):
        read_document(path, kind="other")


@pytest.mark.parametrize(
    "header",
    [
        b"[]",
        b"{}",
        b'{"__metadata__": 3}',
        b'{"__metadata__": {"resolute": 3}}',
        b'{"__metadata__": {"resolute": "3"}}',
        b'{"__metadata__": {"resolute": "{}"}}',
        b'{"__metadata__": {"resolute": "{\\"kind\\": \\"thing\\"}"}}',
        b'{"__metadata__": {"resolute": "{\\"kind\\": \\"thing\\", \\"digest\\": \\"00\\"}"}}',
        b"[" * 100_000,
        b"\xff\xfe",
        b"not json",
    ],
)
def test_hostile_headers_give_one_kind_of_error(header, tmp_path):
    path = tmp_path / "hostile"
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    for read in (read_tensors, read_document):
        with pytest.raises(CheckpointError, match="hostile"):
            read(path, kind="thing")


def test_foreign_safetensors_file_names_convert(tmp_path):
    save_file({"w": torch.zeros(2)}, tmp_path / "foreign")
    with pytest.raises(CheckpointError, match="another safetensors file; `resolute convert`"):
        read_tensors(tmp_path / "foreign", kind="thing")


def test_a_header_of_any_length_is_a_header(tmp_path):
    for length in range(128):
        path = tmp_path / f"{length}"
        write_tensors(path, {"w": torch.zeros(2)}, {"note": "x" * length}, kind="thing")
        assert read_tensors(path, kind="thing")[1]["note"] == "x" * length


def test_a_file_of_torch_names_convert(tmp_path):
    path = tmp_path / "osnet.pth.tar"
    torch.save({"state_dict": {"weight": torch.zeros(3)}}, path)
    with pytest.raises(CheckpointError, match=r"torch saved; .*convert osnet\.pth\.tar`"):
        read_tensors(path, kind="model")


@pytest.mark.skipif(sys.platform != "linux", reason="needs /dev/full")
def test_full_disk_leaves_the_previous_file(path):
    blob = path.read_bytes()
    path.with_name(f"{path.name}.partial").symlink_to("/dev/full")
    with pytest.raises(CheckpointError, match="No space left on device; free some space"):
        write_tensors(path, TENSORS, {"n": 2}, kind="thing")
    assert path.read_bytes() == blob
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_failing_sync_leaves_the_previous_file(path, monkeypatch):
    blob = path.read_bytes()

    def fail(descriptor):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(CheckpointError, match="Input/output error"):
        write_tensors(path, TENSORS, {"n": 2}, kind="thing")
    assert path.read_bytes() == blob


def test_file_is_synced_before_it_is_renamed_and_the_folder_after(path, monkeypatch):
    events = []
    sync, rename = os.fsync, type(path).replace

    def note_sync(descriptor):
        events.append("folder" if pathlib.Path(f"/proc/self/fd/{descriptor}").is_dir() else "file")
        sync(descriptor)

    def note_rename(self, target):
        events.append("rename")
        return rename(self, target)

    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(type(path), "replace", note_rename)
    write_tensors(path, TENSORS, {}, kind="thing")
    assert [e for e in events if e != "folder"] == ["file", "rename"]
    if sys.platform == "linux":
        assert events == ["file", "rename", "folder"]
