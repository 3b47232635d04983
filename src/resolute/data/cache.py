"""Decoded images at native size in one flat file, written once and mapped ever after.

Letters: N images. File: a header of 64 bytes, the pixels of all images end to end, the index.
"""

import errno
import hashlib
import os
import struct
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from resolute.core.errors import DatasetError, ShapeError
from resolute.core.types import Record

_MAGIC = b"RESOPIX1"
# Magic, number of images, bytes of pixels, sha256 of both numbers, the key and the index.
_HEADER = struct.Struct("<8sQQ32s8x")
_INDEX = np.dtype([("offset", "<u8"), ("height", "<u4"), ("width", "<u4")])
_CHUNK = 256
_SHOWN = 5


def default_folder() -> Path:
    """Return the folder for stores, below ``$XDG_CACHE_HOME`` or else ``~/.cache``."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "resolute" / "pixels"


def store_digest(records: Sequence[Record]) -> str:
    """Return the name of a store: the sha256 over the records' source tokens, in order.

    Args:
        records: N records.
    """
    text = hashlib.sha256(_MAGIC)
    for record in records:
        text.update(record.source.token().encode() + b"\n")
    return text.hexdigest()


class PixelStore:
    """The pixels of N images at native size, by position. Made by :meth:`open`.

    Attributes:
        digest: what :func:`store_digest` gives for the records stored.
        path: the file, or None for a store in memory.
        sizes: native (height, width) in pixels, shape (N, 2), int64.
    """

    def __init__(
        self, *, digest: str, path: Path | None, flat: NDArray[np.uint8], index: NDArray[np.void]
    ) -> None:
        self.digest = digest
        self.path = path
        self.sizes: NDArray[np.int64] = np.stack([index["height"], index["width"]], axis=1).astype(
            np.int64
        )
        self._flat = flat
        self._offsets = index["offset"].astype(np.int64)
        self._index = index

    @classmethod
    def open(
        cls, records: Sequence[Record], folder: Path | None = None, *, threads: int = 4
    ) -> "PixelStore":
        """Decode all images once, or map what an earlier run decoded.

        A file that is cut short or damaged in header or index is written anew.

        Args:
            records: N records.
            folder: where the file is kept, for example :func:`default_folder`; None keeps the
                pixels in memory, which suits small sets (VIPeR: 23 MB).
            threads: images decoded at once.

        Returns:
            The store; image i is that of ``records[i]``.

        Raises:
            DatasetError: if images cannot be read (the first are named), or the file cannot be
                written.
        """
        digest = store_digest(records)
        if folder is None:
            chunks = list(_decode(records, threads))
            flat = np.concatenate([a.reshape(-1) for a in chunks] or [np.empty(0, np.uint8)])
            sizes = [(a.shape[0], a.shape[1]) for a in chunks]
            return cls(digest=digest, path=None, flat=flat, index=_make_index(sizes))
        path = Path(folder) / f"{digest}.pixels"
        index = _read_index(path, digest)
        if index is None or len(index) != len(records):
            _write(path, digest, records, threads)
            index = _read_index(path, digest)
        if index is None:
            raise DatasetError(f"{path}: damaged right after it was written; check the disk")
        return cls(digest=digest, path=path, flat=_map(path, index), index=index)

    def __len__(self) -> int:
        return len(self.sizes)

    def __getstate__(self) -> dict[str, object]:
        """Leave the mapped pixels out: a worker process maps the file itself."""
        return {**self.__dict__, "_flat": self._flat if self.path is None else None}

    def __setstate__(self, state: dict[str, object]) -> None:
        """Map the file again."""
        self.__dict__.update(state)
        if self.path is not None:
            self._flat = _map(self.path, self._index)

    def pixels(self, position: int) -> NDArray[np.uint8]:
        """Return one image.

        Args:
            position: 0..N-1.

        Returns:
            RGB, shape (h, w, 3), 0..255; a view that must not be written to.
        """
        height, width = self.sizes[position]
        start = self._offsets[position]
        return self._flat[start : start + 3 * height * width].reshape(height, width, 3)

    def height(self, position: int) -> int:
        """Return the native height of one image in pixels.

        Args:
            position: 0..N-1.
        """
        return int(self.sizes[position, 0])

    def check_holds(self, records: Sequence[Record]) -> None:
        """Check that this store was made of these records.

        Args:
            records: N records, in the order of the store.

        Raises:
            ShapeError: if it holds other images or another order.
        """
        if len(records) != len(self) or store_digest(records) != self.digest:
            raise ShapeError(
                f"pixel store: expected the {len(records)} images of these records, got a store of "
                f"{len(self)} others; open it with the same records in the same order"
            )


def _decode(records: Sequence[Record], threads: int) -> Iterator[NDArray[np.uint8]]:
    # In order, a chunk at a time so that memory stays bounded; broken images end in one error.
    broken: list[str] = []
    with ThreadPoolExecutor(max_workers=max(1, threads)) as pool:
        for start in range(0, len(records), _CHUNK):
            for result in pool.map(_decode_one, records[start : start + _CHUNK]):
                if isinstance(result, str):
                    broken.append(result)
                elif not broken:
                    yield result
    if broken:
        more = f"; and {len(broken) - _SHOWN} more" if len(broken) > _SHOWN else ""
        raise DatasetError(
            f"{len(broken)} of {len(records)} images cannot be used: "
            f"{'; '.join(broken[:_SHOWN])}{more}"
        )


def _decode_one(record: Record) -> NDArray[np.uint8] | str:
    try:
        pixels = record.source.pixels()
    except OSError as error:
        return f"{record.key} ({error})"
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8 or not pixels.size:
        return f"{record.key} (expected RGB uint8, got {pixels.dtype} of shape {pixels.shape})"
    return pixels


def _make_index(sizes: Sequence[tuple[int, int]]) -> NDArray[np.void]:
    index = np.zeros(len(sizes), dtype=_INDEX)
    if sizes:
        index["height"], index["width"] = np.array(sizes).T
        ends = np.cumsum([3 * height * width for height, width in sizes])
        index["offset"][1:] = ends[:-1]
    return index


def _header(digest: str, index: NDArray[np.void], num_bytes: int) -> bytes:
    numbers = struct.pack("<QQ", len(index), num_bytes)
    check = hashlib.sha256(numbers + digest.encode() + index.tobytes()).digest()
    return _HEADER.pack(_MAGIC, len(index), num_bytes, check)


def _read_index(path: Path, digest: str) -> NDArray[np.void] | None:
    # None if there is no store or it is damaged.
    try:
        with path.open("rb") as file:
            header = file.read(_HEADER.size)
            if len(header) < _HEADER.size:
                return None
            magic, count, num_bytes, _ = _HEADER.unpack(header)
            size = _HEADER.size + num_bytes + count * _INDEX.itemsize
            if magic != _MAGIC or os.fstat(file.fileno()).st_size != size:
                return None
            file.seek(_HEADER.size + num_bytes)
            index = np.frombuffer(file.read(), dtype=_INDEX)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read: {error.strerror}") from error
    return index if header == _header(digest, index, num_bytes) else None


def _map(path: Path, index: NDArray[np.void]) -> NDArray[np.uint8]:
    num_bytes = int((3 * index["height"].astype(np.int64) * index["width"]).sum())
    if not num_bytes:
        return np.empty(0, np.uint8)
    mapped: NDArray[np.uint8] = np.memmap(
        path, dtype=np.uint8, mode="r", offset=_HEADER.size, shape=(num_bytes,)
    )
    return mapped


def _write(path: Path, digest: str, records: Sequence[Record], threads: int) -> None:
    # Beside its place first, then one rename: it is there complete or not at all.
    temporary = ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f".{digest[:12]}.", dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            _write_file(file, digest, _decode(records, threads))
        Path(temporary).replace(path)
        _sync_folder(path.parent)
    except DatasetError:
        raise
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DatasetError(
                f"{path.parent}: the disk is full while caching {len(records)} images; free space, "
                "choose another cache folder, or set XDG_CACHE_HOME"
            ) from error
        raise DatasetError(f"{path.parent}: cannot be written: {error.strerror}") from error
    finally:
        if temporary:
            Path(temporary).unlink(missing_ok=True)


def _write_file(file: BinaryIO, digest: str, images: Iterator[NDArray[np.uint8]]) -> None:
    file.write(bytes(_HEADER.size))
    sizes = []
    for pixels in images:
        file.write(np.ascontiguousarray(pixels).data)
        sizes.append((pixels.shape[0], pixels.shape[1]))
    num_bytes = file.tell() - _HEADER.size
    index = _make_index(sizes)
    file.write(index.tobytes())
    file.seek(0)
    file.write(_header(digest, index, num_bytes))
    file.flush()
    os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    """Make the rename itself durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
