"""Append-only files with a header and checksums, and text files replaced whole.

A file is a header of 64 bytes and the data. How much of the data counts, and the CRC-32 of every
block of 4 MiB of it, stands in the gallery's manifest: bytes beyond were never acknowledged. The
checksum of the last, unfinished block grows with it, so that appending reads nothing.
"""

import errno
import hashlib
import math
import os
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from resolute.core.errors import GalleryError
from resolute.retrieval.mapping import map_file

BLOCK_BYTES = 2**22
_MAGIC = b"RESOGAL1"
# Magic, kind of file, name of the segment, CRC-32 of the bytes before.
_HEADER = struct.Struct("<8s16s32sI4x")

Bytes = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Extent:
    """How much of a file counts.

    Attributes:
        num_bytes: data after the header.
        sums: CRC-32 of each block of ``BLOCK_BYTES``, the last one of what there is of it.
    """

    num_bytes: int = 0
    sums: tuple[int, ...] = ()

    def grown(self, data: memoryview) -> "Extent":
        """Return the extent after appending.

        Args:
            data: the bytes appended.
        """
        sums = list(self.sums)
        at, end = self.num_bytes, self.num_bytes + len(data)
        while at < end:
            filled = at % BLOCK_BYTES
            step = min(BLOCK_BYTES - filled, end - at)
            start = at - self.num_bytes
            before = sums.pop() if filled else 0
            sums.append(zlib.crc32(data[start : start + step], before))
            at += step
        return Extent(end, tuple(sums))


class Column:
    """The counted data of one file, mapped; each block is checked when it is first read.

    Args:
        path: the file.
        kind: what its header has to say.
        segment: name of its segment, likewise.
        extent: how much of it counts.
        earlier: a column of the same file with a smaller extent, whose checks still hold.

    Attributes:
        extent: as given.

    Raises:
        GalleryError: if the file is missing, too short, or its header is damaged.
    """

    def __init__(
        self,
        path: Path,
        *,
        kind: str,
        segment: str,
        extent: Extent,
        earlier: "Column | None" = None,
    ) -> None:
        self.extent = extent
        self._path = path
        self._data = _map(path, kind, segment, extent.num_bytes)
        self._unchecked = np.ones(len(extent.sums), dtype=bool)
        if earlier is not None:
            same = min(len(earlier.extent.sums), len(extent.sums))
            for block in range(same):
                if earlier.extent.sums[block] == extent.sums[block]:
                    self._unchecked[block] = earlier._unchecked[block]

    def read(self, start: int = 0, stop: int | None = None) -> Bytes:
        """Return data, checked.

        Args:
            start: first byte.
            stop: byte after the last; None for the end.

        Returns:
            A view that must not be written to.

        Raises:
            GalleryError: if a block that holds some of it is damaged.
        """
        stop = self.extent.num_bytes if stop is None else stop
        first, last = start // BLOCK_BYTES, -(-stop // BLOCK_BYTES)
        if self._unchecked[first:last].any():
            for block in np.flatnonzero(self._unchecked[first:last]) + first:
                self._check(int(block))
        return self._data[start:stop]

    def rows(self, dtype: Any, *shape: int) -> NDArray[Any]:
        """Return all data as rows of one type, checked.

        Args:
            dtype: of a number or record.
            *shape: of one row; nothing for one number or record a row.

        Returns:
            Shape (rows, ...).

        Raises:
            GalleryError: if a block is damaged, or the data is no whole number of rows.
        """
        if self.extent.num_bytes % (np.dtype(dtype).itemsize * math.prod(shape)):
            raise GalleryError(f"{self._path}: damaged: does not hold whole rows")
        typed: NDArray[Any] = self.read().view(dtype)
        return typed.reshape(-1, *shape)

    def verify(self) -> int:
        """Check every block again, whatever was checked before.

        Returns:
            Bytes checked.

        Raises:
            GalleryError: if a block is damaged.
        """
        for block in range(len(self.extent.sums)):
            self._check(block)
        return self.extent.num_bytes

    def _check(self, block: int) -> None:
        start = block * BLOCK_BYTES
        data = self._data[start : start + BLOCK_BYTES]
        if zlib.crc32(data.data) != self.extent.sums[block]:
            raise GalleryError(
                f"{self._path}: damaged between byte {start} and {start + len(data)} of its data; "
                "restore the gallery from a copy or index the images again"
            )
        self._unchecked[block] = False


def open_column(
    path: Path, *, kind: str, segment: str, extent: Extent, earlier: Column | None
) -> Column:
    """Return the column of a file: the earlier one where nothing was added since.

    Args:
        path: the file.
        kind: what its header has to say.
        segment: name of its segment, likewise.
        extent: how much of it counts.
        earlier: a column of the same file with an extent at most as large; None for none.

    Returns:
        The column.

    Raises:
        GalleryError: if the file is missing, too short, or its header is damaged.
    """
    if earlier is not None and earlier.extent == extent:
        return earlier
    return Column(path, kind=kind, segment=segment, extent=extent, earlier=earlier)


def start(path: Path, kind: str, segment: str) -> Extent:
    """Start an empty file, over whatever an earlier writer left there and never acknowledged.

    Args:
        path: the file.
        kind: for its header.
        segment: likewise.

    Returns:
        Its extent.

    Raises:
        OSError: if the disk is full or the file cannot be written.
    """
    with path.open("wb") as file:
        file.write(_header(kind, segment))
        _sync(file)
    return Extent()


def append(path: Path, extent: Extent, data: memoryview) -> Extent:
    """Append data to a file and wait until the disk has it.

    Whatever lies beyond the extent is cut off first: an earlier writer did not finish it.

    Args:
        path: the file.
        extent: how much of it counts now.
        data: bytes to append.

    Returns:
        The extent that counts once the manifest says so.

    Raises:
        OSError: if the disk is full or the file cannot be written.
    """
    if not len(data):
        return extent
    with path.open("r+b") as file:
        file.truncate(_HEADER.size + extent.num_bytes)
        file.seek(0, os.SEEK_END)
        file.write(data)
        _sync(file)
    return extent.grown(data)


def cut(path: Path, extent: Extent) -> None:
    """Cut off what an earlier writer did not finish.

    Args:
        path: the file.
        extent: how much of it counts.

    Raises:
        OSError: if the file cannot be written.
    """
    if path.stat().st_size > _HEADER.size + extent.num_bytes:
        with path.open("r+b") as file:
            file.truncate(_HEADER.size + extent.num_bytes)
            _sync(file)


def write_text(path: Path, text: str) -> None:
    """Replace a text file: after a crash it holds the old text or the new, whole.

    The first line is the sha256 of the rest.

    Args:
        path: the file.
        text: what it is to hold.

    Raises:
        OSError: if the disk is full or the file cannot be written; the old text stays.
    """
    partial = path.with_name(f"{path.name}.partial")
    body = text.encode()
    with partial.open("wb") as file:
        file.write(hashlib.sha256(body).hexdigest().encode() + b"\n" + body)
        _sync(file)
    partial.replace(path)
    sync_folder(path.parent)


def read_text(path: Path) -> str:
    """Read a file of :func:`write_text` and check it.

    Args:
        path: the file.

    Returns:
        Its text.

    Raises:
        GalleryError: if it cannot be read or is damaged.
    """
    try:
        blob = path.read_bytes()
    except OSError as error:
        raise GalleryError(f"{path}: cannot be read: {_reason(error)}") from error
    digest, _, body = blob.partition(b"\n")
    if hashlib.sha256(body).hexdigest().encode() != digest:
        raise GalleryError(f"{path}: damaged; restore the gallery from a copy")
    return body.decode()


def sync_folder(folder: Path) -> None:
    """Make creations, renames and removals in a folder durable.

    Args:
        folder: the folder.

    Raises:
        OSError: if the disk refuses.
    """
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def wording(what: str, folder: Path) -> Iterator[None]:
    """Say in the gallery's words why a write failed.

    Args:
        what: what is to be done.
        folder: of the gallery.

    Yields:
        Nothing.

    Raises:
        GalleryError: in place of an OSError of the block.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise GalleryError(
                f"{folder}: the disk is full, {what} was not done and nothing has changed; "
                "free some space"
            ) from error
        raise GalleryError(
            f"{folder}: {what} was not done and nothing has changed: {_reason(error)}"
        ) from error


def _sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _header(kind: str, segment: str) -> bytes:
    packed = _HEADER.pack(_MAGIC, kind.encode(), segment.encode(), 0)
    check = zlib.crc32(packed[: _HEADER.size - 8])
    return _HEADER.pack(_MAGIC, kind.encode(), segment.encode(), check)


def _map(path: Path, kind: str, segment: str, num_bytes: int) -> Bytes:
    try:
        with path.open("rb") as file:
            header = file.read(_HEADER.size)
            size = os.fstat(file.fileno()).st_size
            if header != _header(kind, segment):
                raise GalleryError(
                    f"{path}: damaged header, or not the {kind} file of segment {segment}; "
                    "restore the gallery from a copy"
                )
            if size < _HEADER.size + num_bytes:
                raise GalleryError(
                    f"{path}: truncated: expected {_HEADER.size + num_bytes} bytes, got {size}; "
                    "restore the gallery from a copy"
                )
            if not num_bytes:
                return np.empty(0, dtype=np.uint8)
            return map_file(file, _HEADER.size + num_bytes)[_HEADER.size :]
    except OSError as error:
        raise GalleryError(f"{path}: cannot be read: {_reason(error)}") from error


def _reason(error: OSError) -> str:
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return "too many open files; close some or raise the limit (ulimit -n)"
    return error.strerror or str(error)
