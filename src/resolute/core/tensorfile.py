"""One safetensors file with a JSON document inside: written whole or not at all, read verified.

The document lies in the file's metadata under the key ``resolute``. Its first entry is the sha256
of the whole file, computed with that entry itself set to zeros: one flipped bit anywhere is found.
Reading executes nothing: safetensors and JSON only.
"""

import hashlib
import json
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from resolute.core.errors import CheckpointError

_KEY = "resolute"
_NO_DIGEST = b"0" * 64
_LARGEST_HEADER = 100_000_000  # bytes; the limit of the safetensors format


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], document: Mapping[str, Any], *, kind: str
) -> None:
    """Write tensors and a document to one file, atomically.

    The bytes go to ``<name>.partial`` in the same folder, are fsynced, renamed over ``path``, and
    the folder is fsynced: whatever happens, ``path`` is the old file or the new one.

    Args:
        path: file to write; its folder exists.
        tensors: any device, dtype and memory layout; stored contiguous.
        document: what JSON can hold; ``digest``, ``kind``, ``bytes`` and ``versions`` are added.
        kind: what the file is, for example ``checkpoint``; reading asks for it again.

    Raises:
        CheckpointError: if the disk is full or the file cannot be written; ``path`` is untouched.
    """
    stored = _stored(tensors)
    head = {
        "digest": _NO_DIGEST.decode(),
        "kind": kind,
        "bytes": sum(tensor.nbytes for tensor in stored.values()),
        "versions": versions(),
    }
    text = json.dumps({**head, **document}, allow_nan=False)
    blob = safetensors.torch.save(stored, metadata={_KEY: text})
    start = 8 + int.from_bytes(blob[:8], "little")
    digest = hashlib.sha256(blob).hexdigest().encode()
    _replace(path, blob[:start].replace(_NO_DIGEST, digest, 1), memoryview(blob)[start:])


def read_tensors(path: Path, *, kind: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a file of :func:`write_tensors` and verify every byte of it.

    Args:
        path: file to read.
        kind: what the file has to be.

    Returns:
        The tensors, contiguous and on the CPU, and the document.

    Raises:
        CheckpointError: if the file is missing, truncated, damaged or of another kind.
    """
    try:
        blob = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from error
    start, document = _document(path, blob, kind)
    expected = start + document["bytes"]
    if len(blob) != expected:
        raise CheckpointError(
            f"{path}: truncated or overlong: expected {expected} bytes, got {len(blob)}; "
            "copy the file again or use an earlier one"
        )
    digest = document["digest"].encode()
    actual = hashlib.sha256(blob[:start].replace(digest, _NO_DIGEST, 1))
    actual.update(memoryview(blob)[start:])
    if actual.hexdigest().encode() != digest:
        raise CheckpointError(
            f"{path}: damaged: expected sha256 {document['digest']}, got {actual.hexdigest()}; "
            "copy the file again or use an earlier one"
        )
    try:
        return safetensors.torch.load(blob), document
    except SafetensorError as error:
        raise CheckpointError(f"{path}: not a valid safetensors file: {error}") from error


def read_document(path: Path, *, kind: str) -> dict[str, Any]:
    """Read the document alone, without the tensors and without verifying the digest.

    Args:
        path: file to read.
        kind: what the file has to be.

    Returns:
        The document.

    Raises:
        CheckpointError: if the file is missing, has no readable header or is of another kind.
    """
    try:
        with path.open("rb") as file:
            prefix = file.read(8)
            length = min(int.from_bytes(prefix, "little"), _LARGEST_HEADER)
            return _document(path, prefix + file.read(length), kind)[1]
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from error


def section(document: Mapping[str, Any], name: str, *, where: str) -> dict[str, Any]:
    """Take a part of a document that has to be a mapping.

    Args:
        document: of :func:`read_tensors` or :func:`read_document`.
        name: key of the part.
        where: what the document was read from, for messages.

    Returns:
        The part.

    Raises:
        CheckpointError: if it is absent or no mapping.
    """
    part = document.get(name)
    if not isinstance(part, dict):
        raise CheckpointError(f"{where}: expected a section {name!r}, got {part!r}")
    return part


def versions() -> dict[str, str]:
    """Name the versions that numbers in a file depend on.

    Returns:
        Versions of torch, numpy and Python.
    """
    return {
        "torch": str(torch.__version__),
        "numpy": np.__version__,
        "python": platform.python_version(),
    }


def _stored(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Bring tensors to the layout safetensors takes; tied ones are stored once per name."""
    stored: dict[str, Tensor] = {}
    storages: set[int] = set()
    for name, tensor in tensors.items():
        plain = tensor.detach().cpu().contiguous()
        storage = plain.untyped_storage().data_ptr()
        stored[name] = plain.clone() if storage in storages else plain
        storages.add(storage)
    return stored


def _document(path: Path, blob: bytes, kind: str) -> tuple[int, dict[str, Any]]:
    """Parse the header of a file; return where the tensors begin and the checked document.

    Raises:
        CheckpointError: if the header is damaged, foreign or of another kind.
    """
    length = int.from_bytes(blob[:8], "little")
    # Not by the first byte alone: a header's length may begin with 80, too.
    if blob[8:9] != b"{" and blob.startswith((b"PK\x03\x04", b"\x80")):
        raise CheckpointError(
            f"{path}: a file that torch saved; make a run folder of it with `resolute convert "
            f"{path.name}` and give that"
        )
    if len(blob) < 8 or length > _LARGEST_HEADER or 8 + length > len(blob):
        raise CheckpointError(f"{path}: not a safetensors file, or truncated inside its header")
    try:
        text = json.loads(blob[8 : 8 + length])["__metadata__"][_KEY]
        document = json.loads(text)
    except (KeyError, TypeError):
        raise CheckpointError(
            f"{path}: expected a {kind} of this library, got another safetensors file; "
            "`resolute convert` takes weight files"
        ) from None
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: damaged header: {error}") from error
    if not isinstance(document, dict) or document.get("kind") != kind:
        found = document.get("kind") if isinstance(document, dict) else type(document).__name__
        raise CheckpointError(f"{path}: expected a file of kind {kind!r}, got {found!r}")
    digest, size = document.get("digest"), document.get("bytes")
    if not isinstance(digest, str) or len(digest) != len(_NO_DIGEST) or not isinstance(size, int):
        raise CheckpointError(f"{path}: damaged header: digest or size is missing")
    return 8 + length, document


def _replace(path: Path, header: bytes, payload: memoryview) -> None:
    # A fixed name: what a killed run left behind is overwritten by the next one.
    partial = path.with_name(f"{path.name}.partial")
    try:
        with partial.open("wb") as file:
            file.write(header)
            file.write(payload)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise CheckpointError(
            f"{path}: could not be written: {error.strerror}; "
            "free some space or choose another folder, the previous file is untouched"
        ) from error


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
