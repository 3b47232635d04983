"""How the files of a gallery grow, are written anew without what was deleted, and are swept.

Nothing here counts before the manifest says so: the caller writes it afterwards.
"""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from resolute.retrieval.files import cut, sync_folder
from resolute.retrieval.manifest import MANIFEST_NAME, Manifest, Segment, kinds_of
from resolute.retrieval.rows import (
    ERASED_NAME,
    FOLDER_NAME,
    Rows,
    append_rows,
    rows_per_segment,
    start_segment,
)
from resolute.retrieval.snapshot import Snapshot
from resolute.retrieval.types import VectorSpace

_COPY_BYTES = 2**25  # moved at once by a purge
_OURS = re.compile(r"[0-9]{8}\.[a-z0-9]+")

Grown = tuple[tuple[Segment, ...], int]


def append_segments(
    folder: Path, segments: Sequence[Segment], number: int, rows: Rows, space: VectorSpace
) -> Grown:
    """Write rows behind the last segment, and into new ones where it is full.

    Args:
        folder: of the gallery.
        segments: those that count.
        number: of the next segment.
        rows: N images.
        space: of their embeddings.

    Returns:
        The segments with the rows, and the number of the next segment then.

    Raises:
        OSError: if the disk is full or refuses.
    """
    grown = list(segments)
    most = rows_per_segment(space)
    start = 0
    while start < len(rows.facts):
        if not grown or grown[-1].num_rows >= most:
            grown.append(start_segment(folder, number, space))
            number += 1
        stop = min(len(rows.facts), start + most - grown[-1].num_rows)
        grown[-1] = append_rows(folder, grown[-1], rows.take(start, stop))
        start = stop
    return tuple(grown), number


def rewrite_segments(folder: Path, snapshot: Snapshot) -> Grown:
    """Write the segments that hold deleted images anew without them, row by row and in order.

    Args:
        folder: of the gallery.
        snapshot: what is there now.

    Returns:
        The segments then, those without deleted images as they are, and the number of the next.

    Raises:
        GalleryError: if data is damaged.
        OSError: if the disk is full or refuses.
    """
    space = snapshot.manifest.space
    number = snapshot.manifest.next_segment
    step = max(1, _COPY_BYTES // (4 * space.dim * space.num_streams))
    segments: tuple[Segment, ...] = ()
    is_new = False  # the last one was started here and may take more
    for part in snapshot.parts:
        if not part.segment.num_deleted:
            segments, is_new = (*segments, part.segment), False
            continue
        alive = np.flatnonzero(part.alive)
        for start in range(0, len(alive), step):
            if not is_new:
                segments = (*segments, start_segment(folder, number, space))
                number, is_new = number + 1, True
            rows = part.rows(alive[start : start + step])
            segments, number = append_segments(folder, segments, number, rows, space)
    return segments, number


def remove_uncounted(folder: Path, manifest: Manifest) -> None:
    """Remove files and bytes that the manifest does not count: of killed writers, or just purged.

    Args:
        folder: of the gallery.
        manifest: of what counts.

    Raises:
        OSError: if one cannot be removed.
    """
    extents = {
        f"{segment.name}.{kind}": segment.extents[kind]
        for segment in manifest.segments
        for kind in kinds_of(manifest.space.num_streams)
    }
    stored = folder / FOLDER_NAME
    for path in sorted(stored.iterdir()):
        if path.name in extents:
            cut(path, extents[path.name])
        elif _OURS.fullmatch(path.name):
            path.unlink()
    if (erased := folder / ERASED_NAME).exists():
        cut(erased, manifest.erased)
    (folder / f"{MANIFEST_NAME}.partial").unlink(missing_ok=True)
    sync_folder(stored)
