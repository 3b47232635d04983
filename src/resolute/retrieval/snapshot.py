"""A gallery folder at one instant: everything that only reads.

Letters: N images, Q queries, K keys, S streams, D embedding.
"""

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from resolute.core.errors import GalleryError
from resolute.core.types import Embedding
from resolute.retrieval.accelerator import FaissAccelerator
from resolute.retrieval.exact import Nearest, search
from resolute.retrieval.files import Column, open_column
from resolute.retrieval.manifest import Manifest, read_manifest
from resolute.retrieval.rows import ERASED_NAME, Indices, facts_type, key_hash
from resolute.retrieval.scores import Stretch
from resolute.retrieval.segments import Part
from resolute.retrieval.types import Answer, Entry, Hit, Stats, Where

_PAGE = 2**14  # keys read at once


class Snapshot:
    """A gallery at one instant; never changes, so threads may share it.

    Args:
        folder: of the gallery.
        manifest: what counts.
        earlier: an earlier instant, whose mapped files and checks still hold.

    Attributes:
        manifest: as given.
        parts: its segments.
        firsts: position of each part's first image, and the end, shape (parts + 1,).

    Raises:
        GalleryError: if a file is missing, too short, or its header is damaged.
    """

    def __init__(self, folder: Path, manifest: Manifest, earlier: "Snapshot | None" = None) -> None:
        known = {part.segment.name: part for part in earlier.parts} if earlier else {}
        are_named_alike = earlier is None or earlier.manifest.cameras == manifest.cameras
        self.manifest: Manifest = manifest
        self.parts: list[Part] = []
        for segment in manifest.segments:
            part = known.get(segment.name)
            if part is None or part.segment != segment or not are_named_alike:
                part = Part(folder, segment, manifest.space, manifest.cameras, part)
            self.parts.append(part)
        self._erased: Column | None = None
        if manifest.erased.num_bytes:
            self._erased = open_column(
                folder / ERASED_NAME,
                kind=ERASED_NAME,
                segment="",
                extent=manifest.erased,
                earlier=earlier._erased if earlier else None,
            )
        self.firsts: Indices = np.cumsum([0, *map(len, self.parts)])

    @cached_property
    def stretches(self) -> list[Stretch]:
        """The parts as a search reads them."""
        firsts = self.firsts[:-1].tolist()
        return [part.stretch(first) for part, first in zip(self.parts, firsts, strict=True)]

    def place(self, position: int) -> tuple[Part, int]:
        """Return part and row of a position.

        Args:
            position: of an image.
        """
        index = int(np.searchsorted(self.firsts, position, side="right")) - 1
        return self.parts[index], position - int(self.firsts[index])

    def find(self, keys: Sequence[str]) -> Indices:
        """Return the position of each key.

        Args:
            keys: K names.

        Returns:
            Shape (K,); -1 where a key is not there.

        Raises:
            GalleryError: if stored data is damaged.
        """
        found = np.full(len(keys), -1, dtype=np.int64)
        hashes = np.array([key_hash(key) for key in keys], dtype=np.uint64)
        for part, first in zip(self.parts, self.firsts[:-1], strict=True):
            rows = part.find(keys, hashes)
            found = np.where(rows >= 0, rows + first, found)
        return found

    def was_deleted(self, keys: Sequence[str]) -> NDArray[np.bool_]:
        """Tell which keys were deleted at some time.

        Args:
            keys: K names.

        Returns:
            Shape (K,).

        Raises:
            GalleryError: if stored data is damaged.
        """
        hashes = np.array([key_hash(key) for key in keys], dtype=np.uint64)
        return np.isin(hashes, self._listed()) | np.isin(hashes, self._hidden())

    def unlisted(self) -> NDArray[np.uint64]:
        """Return the hashes of hidden keys that the list of deleted ones lacks.

        The first galleries kept no list.

        Returns:
            Ascending.

        Raises:
            GalleryError: if stored data is damaged.
        """
        return np.setdiff1d(self._hidden(), self._listed())

    def place_of(self, key: str) -> tuple[Part, int]:
        """Return part and row of a key.

        Args:
            key: of an image.

        Returns:
            Its place.

        Raises:
            GalleryError: if it is not there.
        """
        position = int(self.find([key])[0])
        if position < 0:
            raise GalleryError(f"no image {key!r} in the gallery")
        return self.place(position)

    def search(
        self,
        query: Embedding,
        *,
        k: int,
        where: Where,
        accelerator: FaissAccelerator | None = None,
    ) -> list[Answer]:
        """Find the k nearest images of each query; exact unless the accelerator is not.

        Args:
            query: embeddings of Q images.
            k: how many.
            where: which images may be found.
            accelerator: finds candidates; None scans.

        Returns:
            One answer per query.

        Raises:
            GalleryError: if stored data is damaged.
            ProtocolError: if query and image have no stream that both trust.
        """
        masks = [_mask(part, where) for part in self.parts]
        num_compared = sum(
            len(part) if mask is None else int(np.count_nonzero(mask))
            for part, mask in zip(self.parts, masks, strict=True)
        )
        space = self.manifest.space
        if accelerator is None:
            pairs = list(zip(self.stretches, masks, strict=True))
            found = search(query, pairs, space=space, k=k)
        else:
            names = [part.segment.name for part in self.parts]
            triples = list(zip(names, self.stretches, masks, strict=True))
            found = accelerator.search(query, triples, space=space, k=k)
        is_exact = accelerator is None or accelerator.is_exact
        return [self._answer(nearest, num_compared, is_exact=is_exact) for nearest in found]

    def keys(self, where: Where) -> Iterator[str]:
        """Iterate over keys in the order they were added.

        Args:
            where: which.

        Yields:
            Keys.
        """
        for part in self.parts:
            rows = np.flatnonzero(part.passing(where))
            for start in range(0, len(rows), _PAGE):
                yield from part.keys(rows[start : start + _PAGE])

    def entries(self, *, where: Where, start: int, limit: int | None) -> list[Entry]:
        """List images in the order they were added.

        Args:
            where: which.
            start: how many to pass over.
            limit: how many at most; None for all.

        Returns:
            Entries.

        Raises:
            GalleryError: if stored data is damaged.
        """
        listed: list[Entry] = []
        for part in self.parts:
            rows = np.flatnonzero(part.passing(where))
            skipped = min(start, len(rows))
            start -= skipped
            wanted = None if limit is None else limit - len(listed)
            listed += [part.entry(int(row)) for row in rows[skipped:][:wanted]]
            if limit is not None and len(listed) >= limit:
                break
        return listed

    def embedding(self, keys: Sequence[str]) -> Embedding:
        """Return stored embeddings.

        Args:
            keys: K names.

        Returns:
            Embeddings, bit for bit as they came.

        Raises:
            GalleryError: if a key is not there, or stored data is damaged.
        """
        positions = self.find(keys)
        if (positions < 0).any():
            missing = keys[int(np.flatnonzero(positions < 0)[0])]
            raise GalleryError(f"no image {missing!r} in the gallery")
        space = self.manifest.space
        facts = np.zeros(len(keys), dtype=facts_type(space.num_streams))
        vectors = np.empty((len(keys), space.num_streams, space.dim), dtype=np.float32)
        for part, first in zip(self.parts, self.firsts[:-1].tolist(), strict=True):
            here = np.flatnonzero((positions >= first) & (positions < first + len(part)))
            if not len(here):
                continue
            rows = positions[here] - first
            for stream in range(space.num_streams):
                vectors[here, stream] = part.stream(stream)[rows]
            for name in ("quality", "norms", "size", "reliability"):
                facts[name][here] = part.facts[name][rows]
        return Embedding(
            vectors=vectors,
            quality=np.ascontiguousarray(facts["quality"]),
            metric=space.metric,
            fusion=space.fusion,
            constant=space.constant,
            norms=_known(facts["norms"]),
            native_sizes=facts["size"].astype(np.int64) if facts["size"].all() else None,
            reliability=_known(facts["reliability"]),
            fingerprint=space.fingerprint,
        )

    def stats(self, num_bytes: int) -> Stats:
        """Count.

        Args:
            num_bytes: of the folder.

        Returns:
            The counts.

        Raises:
            GalleryError: if stored data is damaged.
        """
        cameras = np.zeros(len(self.manifest.cameras), dtype=np.int64)
        times: list[float] = []
        for part in self.parts:
            facts, alive = part.facts, part.alive
            cameras += np.bincount(facts["camera"][alive], minlength=len(cameras))
            known = facts["time"][alive & ~np.isnan(facts["time"])]
            times += [float(known.min()), float(known.max())] if len(known) else []
        num_deleted = sum(segment.num_deleted for segment in self.manifest.segments)
        names = zip(self.manifest.cameras, cameras.tolist(), strict=True)
        counts = {name: count for name, count in names if name is not None and count}
        return Stats(
            engine="embedded",
            space=self.manifest.space,
            num_images=int(self.firsts[-1]) - num_deleted,
            num_deleted=num_deleted,
            num_bytes=num_bytes,
            cameras=dict(sorted(counts.items())),
            first_time=min(times, default=None),
            last_time=max(times, default=None),
            retention_days=self.manifest.retention_days,
        )

    def verify(self) -> int:
        """Check every byte that counts.

        Returns:
            How many.

        Raises:
            GalleryError: if something is damaged; the first three faults are named.
        """
        num_bytes, last_id = 0, -1
        faults: list[str] = []
        for part in self.parts:
            checked, found = part.verify()
            num_bytes += checked
            if not found and len(part):
                ids = part.facts["id"]
                if ids[0] <= last_id or (np.diff(ids) <= 0).any():
                    found = [f"segment {part.segment.name}: ids do not ascend"]
                last_id = int(ids[-1])
            faults += found
        if self._erased is not None:
            try:
                num_bytes += self._erased.verify()
            except GalleryError as error:
                faults.append(str(error))
        if faults:
            more = f"; and {len(faults) - 3} more" if len(faults) > 3 else ""
            raise GalleryError("; ".join(faults[:3]) + more)
        return num_bytes

    def _listed(self) -> NDArray[np.uint64]:
        return np.empty(0, np.uint64) if self._erased is None else self._erased.rows("<u8")

    def _hidden(self) -> NDArray[np.uint64]:
        parts = [part for part in self.parts if part.segment.num_deleted]
        hashes = [part.facts["hash"][~part.alive] for part in parts]
        return np.concatenate([np.empty(0, np.uint64), *hashes])

    def _answer(self, nearest: Nearest, num_compared: int, *, is_exact: bool) -> Answer:
        hits = []
        for at, position in enumerate(nearest.positions.tolist()):
            part, row = self.place(position)
            entry = part.entry(row)
            hits.append(
                Hit(
                    key=entry.key,
                    id=entry.id,
                    distance=float(nearest.pairs.distances[at]),
                    stream_distances=tuple(nearest.pairs.streams[at].tolist()),
                    hr_share=float(nearest.pairs.shares[at]),
                    reliability=entry.reliability,
                    camera=entry.camera,
                    time=entry.time,
                    native_size=entry.native_size,
                )
            )
        return Answer(
            hits=tuple(hits),
            exact=is_exact,
            num_compared=num_compared,
            num_rescored=nearest.num_rescored,
        )


def load_snapshot(folder: Path, earlier: Snapshot | None = None) -> Snapshot:
    """Read what counts now.

    Args:
        folder: of the gallery.
        earlier: an earlier instant, whose mapped files and checks still hold.

    Returns:
        The snapshot.

    Raises:
        GalleryError: if there is no gallery or it is damaged.
    """
    manifest = read_manifest(folder)
    while True:
        try:
            return Snapshot(folder, manifest, earlier)
        except GalleryError:
            # A writer may have purged files between the reading of the manifest and theirs.
            newer = read_manifest(folder)
            if newer.generation == manifest.generation:
                raise
            manifest = newer


def _mask(part: Part, where: Where) -> NDArray[np.bool_] | None:
    if where.is_empty:
        return part.alive if part.segment.num_deleted else None
    return part.passing(where)


def _known(values: NDArray[np.float32]) -> NDArray[np.float32] | None:
    return None if np.isnan(values).any() else np.ascontiguousarray(values)
