"""The one file that says what counts: a gallery is its manifest, all else is storage."""

import json
import re
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from resolute.core.errors import GalleryError, ReidError
from resolute.retrieval.files import BLOCK_BYTES, Extent, read_text, write_text
from resolute.retrieval.types import VectorSpace

MANIFEST_NAME = "manifest.json"
_FORMAT = "resolute gallery"
_VERSION = 1
_SEGMENT_NAME = re.compile(r"[0-9]{8}")
SHARED_KINDS = ("facts", "keys", "thumbnails", "deleted")


def kinds_of(num_streams: int) -> tuple[str, ...]:
    """List the files of a segment.

    Args:
        num_streams: streams S of the space.

    Returns:
        One kind per file.
    """
    return (*(f"stream{s}" for s in range(num_streams)), *SHARED_KINDS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """One run of images in the order they were added.

    Attributes:
        name: eight digits, never used again.
        num_rows: images, deleted ones included.
        num_deleted: deleted ones among them.
        extents: how much of each file counts, by kind.
    """

    name: str
    num_rows: int
    num_deleted: int
    extents: dict[str, Extent]


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What counts at one instant.

    Attributes:
        space: of the embeddings.
        retention_days: None for never.
        generation: grows by one with every change.
        next_id: id of the next image.
        next_segment: number of the next segment.
        cameras: names by code; None where a code is free.
        segments: in the order of their images.
        erased: how much of the list of deleted keys counts.
    """

    space: VectorSpace
    retention_days: float | None = None
    generation: int = 0
    next_id: int = 0
    next_segment: int = 1
    cameras: tuple[str | None, ...] = ()
    segments: tuple[Segment, ...] = field(default=())
    erased: Extent = field(default=Extent())

    def next(self, **changes: Any) -> "Manifest":
        """Return the manifest of the next generation.

        Args:
            **changes: fields that change.
        """
        return replace(self, generation=self.generation + 1, **changes)


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Make a manifest the one that counts.

    Args:
        folder: of the gallery.
        manifest: the new state; every byte it counts is on the disk.

    Raises:
        OSError: if it cannot be written; the old one counts.
    """
    document = {"format": _FORMAT, "version": _VERSION, **asdict(manifest)}
    write_text(folder / MANIFEST_NAME, json.dumps(document, allow_nan=False) + "\n")


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest that counts.

    Args:
        folder: of the gallery.

    Returns:
        The manifest, checked.

    Raises:
        GalleryError: if there is none, or it is damaged, contradicts itself, or is of a newer
            version of this library.
    """
    path = folder / MANIFEST_NAME
    if not path.is_file():
        raise GalleryError(f"{folder}: no gallery there; make one with `resolute index`")
    text = read_text(path)
    try:
        document = json.loads(text)
        if document.pop("format") != _FORMAT:
            raise GalleryError(f"{path}: not the manifest of a gallery")
        version = document.pop("version")
        if version != _VERSION:
            raise GalleryError(
                f"{path}: expected version {_VERSION}, got {version!r}; use the version of this "
                "library that wrote it"
            )
        space = VectorSpace(**document.pop("space"))
        segments = tuple(_segment(s, space) for s in document.pop("segments"))
        cameras = tuple(document.pop("cameras"))
        # The first galleries kept no list.
        erased = _extent("erased", document.pop("erased", {"num_bytes": 0, "sums": []}))
        return Manifest(space=space, segments=segments, cameras=cameras, erased=erased, **document)
    except GalleryError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, ReidError) as error:
        raise GalleryError(f"{path}: damaged: {type(error).__name__}: {error}") from None


def _segment(document: dict[str, Any], space: VectorSpace) -> Segment:
    extents = {kind: _extent(kind, e) for kind, e in document["extents"].items()}
    name, rows, deleted = document["name"], document["num_rows"], document["num_deleted"]
    if not (isinstance(rows, int) and isinstance(deleted, int) and 0 <= deleted <= rows):
        raise ValueError(f"segment {name!r} with {deleted!r} of {rows!r} images deleted")
    if not _SEGMENT_NAME.fullmatch(name) or set(extents) != set(kinds_of(space.num_streams)):
        raise ValueError(f"segment {name!r} with files {sorted(extents)}")
    for kind, extent in extents.items():
        if kind.startswith("stream") and extent.num_bytes != 4 * space.dim * rows:
            raise ValueError(f"segment {name}: {kind} does not hold {rows} rows")
    return Segment(name=name, num_rows=rows, num_deleted=deleted, extents=extents)


def _extent(kind: str, document: dict[str, Any]) -> Extent:
    extent = Extent(int(document["num_bytes"]), tuple(map(int, document["sums"])))
    if len(extent.sums) != -(-extent.num_bytes // BLOCK_BYTES):
        raise ValueError(f"{kind} of {extent.num_bytes} bytes has {len(extent.sums)} checksums")
    return extent
