"""What is stored of new images, and how it is written to the files of a segment.

Letters: N images of the segment, S streams, D embedding.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resolute.core.types import Embedding
from resolute.retrieval.files import Extent, append, start, sync_folder
from resolute.retrieval.manifest import Segment, kinds_of
from resolute.retrieval.types import Item, VectorSpace

FOLDER_NAME = "segments"
ERASED_NAME = "erased"  # the hashes of deleted keys, 8 bytes each, beside the segments
_SEGMENT_BYTES = 2**27  # of one stream: purging rewrites at most this much for one image
_MOST_ROWS = 2**17

Indices = NDArray[np.int64]


def facts_type(num_streams: int) -> np.dtype[np.void]:
    """Describe what is kept of one image besides vectors, key and picture.

    Args:
        num_streams: streams S.

    Returns:
        A packed little-endian record; NaN and 0 stand for unknown.
    """
    return np.dtype(
        [
            ("id", "<i8"),
            ("time", "<f8"),
            ("added", "<f8"),
            ("squares", "<f8", (num_streams,)),  # squared length of each vector
            ("hash", "<u8"),  # of the key
            ("key_end", "<u8"),
            ("thumbnail_end", "<u8"),
            ("quality", "<f4", (num_streams,)),
            ("norms", "<f4", (num_streams,)),
            ("reliability", "<f4"),
            ("camera", "<u4"),
            ("size", "<u4", (2,)),
        ]
    )


def rows_per_segment(space: VectorSpace) -> int:
    """Return how many images a segment takes.

    Args:
        space: of the embeddings.
    """
    return max(1, min(_MOST_ROWS, _SEGMENT_BYTES // (4 * space.dim)))


def key_hash(key: str) -> int:
    """Hash a key to 64 bits, the same on every machine.

    Args:
        key: name of an image.
    """
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "little")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """What one appending writes.

    Attributes:
        facts: records of :func:`facts_type` with ``key_end`` and ``thumbnail_end`` counted from
            the start of these rows, shape (N,).
        streams: vectors per stream, each (N, D).
        keys: all keys end to end.
        thumbnails: all pictures end to end.
    """

    facts: NDArray[np.void]
    streams: tuple[NDArray[np.float32], ...]
    keys: bytes
    thumbnails: bytes

    @classmethod
    def of(
        cls,
        items: Sequence[Item],
        embedding: Embedding,
        *,
        ids: Indices,
        cameras: Mapping[str, int],
        added: float,
    ) -> "Rows":
        """Bring new images to the form they are stored in.

        Args:
            items: N images.
            embedding: theirs.
            ids: theirs, shape (N,).
            cameras: codes by name.
            added: now, seconds since the epoch.

        Returns:
            The rows.
        """
        num_streams = embedding.vectors.shape[1]
        vectors = np.asarray(embedding.vectors, dtype="<f4")  # as stored; the lengths are theirs
        keys = [item.key.encode() for item in items]
        pictures = [item.thumbnail or b"" for item in items]
        facts = np.zeros(len(items), dtype=facts_type(num_streams))
        facts["id"] = ids
        facts["time"] = [np.nan if item.time is None else item.time for item in items]
        facts["added"] = added
        facts["squares"] = np.einsum("nsd,nsd->ns", vectors, vectors, dtype=np.float64)
        facts["hash"] = [key_hash(item.key) for item in items]
        facts["key_end"] = np.cumsum([len(key) for key in keys])
        facts["thumbnail_end"] = np.cumsum([len(picture) for picture in pictures])
        facts["quality"] = embedding.quality
        facts["norms"] = np.nan if embedding.norms is None else embedding.norms
        facts["reliability"] = np.nan if embedding.reliability is None else embedding.reliability
        facts["camera"] = [cameras[item.camera] for item in items]
        facts["size"] = 0 if embedding.native_sizes is None else embedding.native_sizes
        streams = tuple(np.ascontiguousarray(vectors[:, s]) for s in range(num_streams))
        return cls(facts=facts, streams=streams, keys=b"".join(keys), thumbnails=b"".join(pictures))

    def take(self, start: int, stop: int) -> "Rows":
        """Return a run of the rows.

        Args:
            start: first row.
            stop: row after the last.
        """
        facts = self.facts[start:stop].copy()
        bounds = []
        for name in ("key_end", "thumbnail_end"):
            first = int(self.facts[name][start - 1]) if start else 0
            bounds.append(slice(first, int(self.facts[name][stop - 1])))
            facts[name] -= np.uint64(first)
        return Rows(
            facts=facts,
            streams=tuple(vectors[start:stop] for vectors in self.streams),
            keys=self.keys[bounds[0]],
            thumbnails=self.thumbnails[bounds[1]],
        )


def start_segment(folder: Path, number: int, space: VectorSpace) -> Segment:
    """Start the files of an empty segment.

    Args:
        folder: of the gallery.
        number: of the segment.
        space: of the embeddings.

    Returns:
        The segment; it counts once it stands in the manifest.

    Raises:
        OSError: if the disk is full or cannot be written.
    """
    name = f"{number:08d}"
    extents = {
        kind: start(file_of(folder, name, kind), kind, name) for kind in kinds_of(space.num_streams)
    }
    return Segment(name=name, num_rows=0, num_deleted=0, extents=extents)


def append_rows(folder: Path, segment: Segment, rows: Rows) -> Segment:
    """Append images to the files of a segment and wait until the disk has them.

    Args:
        folder: of the gallery.
        segment: as it counts now.
        rows: what to append.

    Returns:
        The segment as it counts once it stands in the manifest.

    Raises:
        OSError: if the disk is full or cannot be written.
    """
    facts = rows.facts.copy()
    facts["key_end"] += np.uint64(segment.extents["keys"].num_bytes)
    facts["thumbnail_end"] += np.uint64(segment.extents["thumbnails"].num_bytes)
    data = {
        **{f"stream{s}": _bytes(vectors) for s, vectors in enumerate(rows.streams)},
        "keys": memoryview(rows.keys),
        "thumbnails": memoryview(rows.thumbnails),
        "facts": _bytes(facts),
    }
    extents = dict(segment.extents)
    for kind, block in data.items():
        extents[kind] = append(file_of(folder, segment.name, kind), extents[kind], block)
    return replace(segment, num_rows=segment.num_rows + len(facts), extents=extents)


def append_deleted(folder: Path, segment: Segment, rows: Indices) -> Segment:
    """Note rows of a segment as deleted and wait until the disk has the note.

    Args:
        folder: of the gallery.
        segment: as it counts now.
        rows: positions in the segment, none of them deleted before.

    Returns:
        The segment as it counts once it stands in the manifest.

    Raises:
        OSError: if the disk is full or cannot be written.
    """
    path = file_of(folder, segment.name, "deleted")
    extent = append(path, segment.extents["deleted"], _bytes(rows.astype("<u4")))
    return replace(
        segment,
        num_deleted=segment.num_deleted + len(rows),
        extents={**segment.extents, "deleted": extent},
    )


def append_erased(folder: Path, extent: Extent, hashes: NDArray[np.uint64]) -> Extent:
    """Note keys as deleted, so that no later indexing puts them back, and wait for the disk.

    Args:
        folder: of the gallery.
        extent: of the list as it counts now.
        hashes: of the keys, see :func:`key_hash`.

    Returns:
        The extent that counts once it stands in the manifest.

    Raises:
        OSError: if the disk is full or cannot be written.
    """
    path = folder / ERASED_NAME
    if len(hashes) and not extent.num_bytes:
        start(path, ERASED_NAME, "")
        sync_folder(folder)
    return append(path, extent, _bytes(hashes.astype("<u8")))


def file_of(folder: Path, segment: str, kind: str) -> Path:
    """Return the path of one file.

    Args:
        folder: of the gallery.
        segment: its name.
        kind: of the file.
    """
    return folder / FOLDER_NAME / f"{segment}.{kind}"


def _bytes(array: NDArray[Any]) -> memoryview:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
