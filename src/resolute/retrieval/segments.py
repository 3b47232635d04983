"""One segment of a gallery as it was at one instant: a run of images in mapped files.

Letters: N images of the segment, K keys, S streams, D embedding.
"""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resolute.core.errors import GalleryError
from resolute.retrieval.files import Column, open_column
from resolute.retrieval.manifest import Segment, kinds_of
from resolute.retrieval.rows import (
    FOLDER_NAME,
    Indices,
    Rows,
    facts_type,
    file_of,
    key_hash,
)
from resolute.retrieval.scores import Stretch
from resolute.retrieval.types import Entry, VectorSpace, Where

_ENDS = {"keys": "key_end", "thumbnails": "thumbnail_end"}


class Part:
    """A segment as it was at one instant, read-only.

    Args:
        folder: of the gallery.
        segment: what counts of it.
        space: of the embeddings.
        cameras: names by code.
        earlier: the same segment at an earlier instant, whose maps and checks still hold.

    Attributes:
        segment: as given.

    Raises:
        GalleryError: if a file is missing, too short, or its header is damaged.
    """

    def __init__(
        self,
        folder: Path,
        segment: Segment,
        space: VectorSpace,
        cameras: Sequence[str | None],
        earlier: "Part | None" = None,
    ) -> None:
        self.segment = segment
        self._space = space
        self._cameras = cameras
        self._where = folder / FOLDER_NAME / segment.name
        self._stretch: Stretch | None = None
        self._columns: dict[str, Column] = {
            kind: open_column(
                file_of(folder, segment.name, kind),
                kind=kind,
                segment=segment.name,
                extent=segment.extents[kind],
                earlier=earlier._columns[kind] if earlier else None,
            )
            for kind in kinds_of(space.num_streams)
        }

    def __len__(self) -> int:
        return self.segment.num_rows

    @cached_property
    def facts(self) -> dict[str, NDArray[Any]]:
        """What is known of each image, one contiguous array per name, checked."""
        return self._facts()

    @cached_property
    def alive(self) -> NDArray[np.bool_]:
        """Which images are not deleted, shape (N,), checked."""
        return self._alive()

    @cached_property
    def _by_hash(self) -> tuple[NDArray[np.uint64], Indices]:
        hashes = self.facts["hash"]
        order = np.argsort(hashes, kind="stable")
        return hashes[order], order

    def stretch(self, first: int) -> Stretch:
        """Return the images as a search reads them.

        Args:
            first: position of the first one in the gallery.

        Returns:
            The same object for the same position.

        Raises:
            GalleryError: if stored data is damaged.
        """
        if self._stretch is None or self._stretch.first != first:
            self._stretch = Stretch(
                streams=tuple(map(self.stream, range(self._space.num_streams))),
                quality=self.facts["quality"],
                squares=self.facts["squares"],
                first=first,
            )
        return self._stretch

    def stream(self, stream: int) -> NDArray[np.float32]:
        """Return the vectors of one stream, checked.

        Args:
            stream: 0 or 1.

        Returns:
            Shape (N, D); must not be written to.

        Raises:
            GalleryError: if they are damaged.
        """
        return self._columns[f"stream{stream}"].rows("<f4", self._space.dim)

    def passing(self, where: Where) -> NDArray[np.bool_]:
        """Tell which images are there and pass the conditions.

        Args:
            where: the conditions.

        Returns:
            Shape (N,).

        Raises:
            GalleryError: if stored data is damaged.
        """
        facts, passing = self.facts, self.alive.copy()
        for names, is_wanted in ((where.camera, True), (where.not_camera, False)):
            if names:
                codes = [code for code, name in enumerate(self._cameras) if name in names]
                passing &= np.isin(facts["camera"], codes) == is_wanted
        # Comparisons with NaN are False: what is unknown passes no condition on it.
        if where.start is not None:
            passing &= facts["time"] >= where.start
        if where.end is not None:
            passing &= facts["time"] < where.end
        if where.min_reliability is not None:
            passing &= facts["reliability"] >= np.float32(where.min_reliability)
        return passing

    def older(self, deadline: float) -> NDArray[np.bool_]:
        """Tell which images are there and older than a deadline.

        The age counts from the image's time, or from its adding where that came before: no image
        is taken after it was added, and a clock that was wrong must not keep one for ever.

        Args:
            deadline: seconds since the epoch.

        Returns:
            Shape (N,).

        Raises:
            GalleryError: if stored data is damaged.
        """
        # Comparisons with NaN are False: an unknown time makes no image older.
        times, added = self.facts["time"], self.facts["added"]
        return self.alive & ((times < deadline) | (added < deadline))

    def find(self, keys: Sequence[str], hashes: NDArray[np.uint64]) -> Indices:
        """Find the rows of keys among the images that are not deleted.

        Args:
            keys: K names.
            hashes: theirs, of :func:`key_hash`, shape (K,).

        Returns:
            Positions, shape (K,); -1 where a key is not there.

        Raises:
            GalleryError: if stored data is damaged.
        """
        found = np.full(len(keys), -1, dtype=np.int64)
        ordered, order = self._by_hash
        first = np.searchsorted(ordered, hashes, side="left")
        last = np.searchsorted(ordered, hashes, side="right")
        for at in np.flatnonzero(last > first).tolist():
            for row in order[first[at] : last[at]].tolist():
                if self.alive[row] and self.key(row) == keys[at]:
                    found[at] = row
        return found

    def key(self, row: int) -> str:
        """Return the key of an image.

        Args:
            row: its position.

        Returns:
            The key.

        Raises:
            GalleryError: if it is damaged.
        """
        return self._blob("keys", row).decode(errors="replace")

    def keys(self, rows: Indices) -> list[str]:
        """Return the keys of images.

        Args:
            rows: their positions, ascending, shape (M,).

        Returns:
            M keys.

        Raises:
            GalleryError: if they are damaged.
        """
        return [bytes(piece).decode(errors="replace") for piece in self._pieces("keys", rows)]

    def thumbnail(self, row: int) -> bytes | None:
        """Return the picture of an image.

        Args:
            row: its position.

        Returns:
            Its bytes; None where there is none.

        Raises:
            GalleryError: if it is damaged.
        """
        return self._blob("thumbnails", row) or None

    def entry(self, row: int) -> Entry:
        """Describe an image.

        Args:
            row: its position.

        Returns:
            What is known of it.

        Raises:
            GalleryError: if stored data is damaged.
        """
        facts = self.facts
        height, width = facts["size"][row].tolist()
        norms = facts["norms"][row]
        thumbnail = self._span("thumbnails", row)
        return Entry(
            id=int(facts["id"][row]),
            key=self.key(row),
            camera=self._cameras[facts["camera"][row]] or "",
            time=_known(facts["time"][row]),
            added=float(facts["added"][row]),
            reliability=_known(facts["reliability"][row]),
            native_size=(height, width) if height else None,
            quality=tuple(facts["quality"][row].tolist()),
            norms=None if np.isnan(norms).any() else tuple(norms.tolist()),
            has_thumbnail=thumbnail.stop > thumbnail.start,
        )

    def rows(self, wanted: Indices) -> Rows:
        """Copy images, to write them elsewhere.

        Args:
            wanted: positions, ascending.

        Returns:
            The rows.

        Raises:
            GalleryError: if stored data is damaged.
        """
        facts = np.zeros(len(wanted), dtype=facts_type(self._space.num_streams))
        for name, values in self.facts.items():
            facts[name] = values[wanted]
        blobs = {}
        for kind, end in _ENDS.items():
            pieces = self._pieces(kind, wanted)
            facts[end] = np.cumsum([len(piece) for piece in pieces])
            blobs[kind] = b"".join(pieces)
        streams = tuple(self.stream(s)[wanted] for s in range(self._space.num_streams))
        return Rows(facts=facts, streams=streams, **blobs)

    def verify(self) -> tuple[int, list[str]]:
        """Check every byte.

        Returns:
            Bytes checked, and what is damaged.
        """
        total, faults = 0, []
        for column in self._columns.values():
            try:
                total += column.verify()
            except GalleryError as error:
                faults.append(str(error))
        if not faults:
            try:
                self._check_meaning()
            except GalleryError as error:
                faults.append(str(error))
        return total, faults

    def _check_meaning(self) -> None:
        facts = self._facts()
        if int(self.alive.sum()) != len(self) - self.segment.num_deleted:
            raise GalleryError(f"{self._where}.deleted: names an image twice")
        for stream in range(self._space.num_streams):
            vectors = self.stream(stream)
            for begin in range(0, len(self), 4096):
                block = vectors[begin : begin + 4096].astype(np.float64)
                squares = np.einsum("nd,nd->n", block, block)
                known = facts["squares"][begin : begin + 4096, stream]
                if not np.allclose(squares, known, rtol=1e-9):
                    raise GalleryError(f"{self._where}.facts: lengths are not those of the vectors")
        hashes = facts["hash"].tolist()
        for row, key in enumerate(self.keys(np.arange(len(self)))):
            if key_hash(key) != hashes[row]:
                raise GalleryError(f"{self._where}.keys: key of image {row} is not the one indexed")

    def _facts(self) -> dict[str, NDArray[Any]]:
        record = facts_type(self._space.num_streams)
        column = self._columns["facts"]
        if column.extent.num_bytes != record.itemsize * len(self):
            raise GalleryError(f"{self._where}.facts: does not hold {len(self)} images")
        records = column.rows(record)
        facts = {name: np.ascontiguousarray(records[name]) for name in record.names or ()}
        for kind, end in _ENDS.items():
            values, size = facts[end], self._columns[kind].extent.num_bytes
            if len(values) and (values[-1] != size or (values[1:] < values[:-1]).any()):
                raise GalleryError(f"{self._where}.facts: does not fit {self._where}.{kind}")
        if len(self) and facts["camera"].max() >= len(self._cameras):
            raise GalleryError(f"{self._where}.facts: names a camera that is not in the manifest")
        return facts

    def _alive(self) -> NDArray[np.bool_]:
        rows = self._columns["deleted"].rows("<u4")
        if len(rows) != self.segment.num_deleted or (len(rows) and rows.max() >= len(self)):
            raise GalleryError(f"{self._where}.deleted: names images that are not there")
        alive = np.ones(len(self), dtype=bool)
        alive[rows] = False
        return alive

    def _span(self, kind: str, row: int) -> slice:
        ends = self.facts[_ENDS[kind]]
        return slice(int(ends[row - 1]) if row else 0, int(ends[row]))

    def _blob(self, kind: str, row: int) -> bytes:
        span = self._span(kind, row)
        return self._columns[kind].read(span.start, span.stop).tobytes()

    def _pieces(self, kind: str, rows: Indices) -> list[memoryview]:
        # One read for all: rows that are near each other share their blocks.
        if not len(rows):
            return []
        ends = self.facts[_ENDS[kind]].astype(np.int64)
        stops = ends[rows]
        starts = np.where(rows > 0, ends[rows - 1], 0)
        first = int(starts[0])
        data = self._columns[kind].read(first, int(stops[-1])).data
        spans = zip((starts - first).tolist(), (stops - first).tolist(), strict=True)
        return [data[start:stop] for start, stop in spans]


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
