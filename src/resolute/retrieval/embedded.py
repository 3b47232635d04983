"""The default engine: a folder of segments and one manifest, exact, with no server.

Adding and deleting append to files and then replace the manifest; purging writes new files,
replaces the manifest and removes the old ones. Until the manifest is replaced nothing has changed,
after it everything has: a process killed at any instant loses nothing that it acknowledged.
"""

import contextlib
import fcntl
import stat
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from resolute.core.errors import ConfigError, GalleryBusyError, GalleryError
from resolute.core.types import Embedding
from resolute.retrieval.accelerator import FaissAccelerator
from resolute.retrieval.files import sync_folder, wording
from resolute.retrieval.manifest import MANIFEST_NAME, Manifest, write_manifest
from resolute.retrieval.rows import FOLDER_NAME, Rows, append_deleted, append_erased
from resolute.retrieval.snapshot import Snapshot, load_snapshot
from resolute.retrieval.turnover import append_segments, remove_uncounted, rewrite_segments
from resolute.retrieval.types import (
    Answer,
    Entry,
    Item,
    Stats,
    VectorSpace,
    Where,
    check_retention,
)

LOCK_NAME = "lock"
_MOST_CAMERAS = 65_536


class EmbeddedEngine:
    """A gallery in a folder. Made by :meth:`create` and :meth:`open`.

    It reads from a snapshot that writing replaces, so that searches in other threads go on.
    """

    def __init__(
        self, folder: Path, snapshot: Snapshot, accelerator: FaissAccelerator | None = None
    ) -> None:
        space = snapshot.manifest.space
        self._accelerator = None if accelerator is None else accelerator.for_gallery(space)
        self._folder = folder
        self._show(snapshot)
        self._lock_file: BinaryIO | None = None
        self._is_closed = False
        self._is_stale = True  # until this is the writer, has read the disk and swept it
        self._mutex = threading.RLock()

    @classmethod
    def create(
        cls, folder: Path, *, space: VectorSpace, retention_days: float | None
    ) -> "EmbeddedEngine":
        """Make an empty gallery and become its writer.

        Args:
            folder: empty, or not there yet.
            space: of the embeddings to come.
            retention_days: None for never.

        Returns:
            The engine.

        Raises:
            GalleryError: if the folder holds something, or cannot be written.
            ConfigError: if the retention is not above 0.
        """
        check_retention(retention_days)
        folder = folder.expanduser()
        with wording("creating the gallery", folder):
            folder.mkdir(parents=True, exist_ok=True)
            _check_empty(folder)
            manifest = Manifest(space=space, retention_days=retention_days)
            engine = cls(folder, Snapshot(folder, manifest))
            engine._take_lock()
            try:
                _check_empty(folder)  # again: another process may have been quicker
                (folder / FOLDER_NAME).mkdir(exist_ok=True)
                write_manifest(folder, manifest)
            except BaseException:
                engine.close()
                raise
        return engine

    @classmethod
    def open(cls, folder: Path, *, accelerator: FaissAccelerator | None = None) -> "EmbeddedEngine":
        """Open a gallery for reading; the first writing call takes the lock.

        Args:
            folder: of the gallery.
            accelerator: finds candidates; None scans.

        Returns:
            The engine.

        Raises:
            GalleryError: if there is none or it is damaged.
            ConfigError: if the accelerator cannot serve its space.
        """
        folder = folder.expanduser()
        return cls(folder, load_snapshot(folder), accelerator)

    @property
    def _snapshot(self) -> Snapshot:
        # Read anew where it was given back, or where nobody knows whether it still counts.
        if (current := self._current) is not None:
            return current
        with self._mutex:
            if (current := self._current) is None:
                self._check_open()
                current = self._show(load_snapshot(self._folder))
            return current

    def _show(self, snapshot: Snapshot) -> Snapshot:
        self._current: Snapshot | None = snapshot
        # Stays when the snapshot is given back: what is fixed needs no files and no waiting.
        self._manifest = snapshot.manifest
        return snapshot

    @property
    def space(self) -> VectorSpace:
        """Return the space of the stored embeddings."""
        return self._manifest.space

    @property
    def retention_days(self) -> float | None:
        """Return the age in days after which images are to be erased; None for never."""
        return self._manifest.retention_days

    def lock(self) -> None:
        """Become the one writer; sweep up what a killed one left.

        Raises:
            GalleryBusyError: if another process writes.
            GalleryError: if the folder cannot be written, or the gallery is damaged or closed.
        """
        with self._mutex:
            self._check_open()
            if not self._is_stale:
                return
            self._take_lock()
            self.refresh()
            self._sweep()

    def refresh(self) -> None:
        """See what other writers did.

        Raises:
            GalleryError: if the gallery is damaged, gone or closed.
        """
        with self._mutex:
            self._check_open()
            self._show(load_snapshot(self._folder, self._current))

    def add(
        self, items: Sequence[Item], embedding: Embedding, *, added: float
    ) -> NDArray[np.int64]:
        """Store images.

        Args:
            items: N images with distinct keys.
            embedding: theirs.
            added: now, seconds since the epoch.

        Returns:
            Ids, shape (N,).

        Raises:
            GalleryError: if a key is there, another process writes, or the disk is full.
            ConfigError: if there are too many names of cameras.
        """
        with self._mutex:
            self.lock()
            there = np.flatnonzero(self.contains([item.key for item in items]))
            if len(there):
                raise GalleryError(
                    f"add: {len(there)} of {len(items)} keys are in the gallery already, first "
                    f"{items[there[0]].key!r}; delete them first or leave them out"
                )
            manifest = self._snapshot.manifest
            cameras = _with_cameras(manifest.cameras, [item.camera for item in items])
            ids = manifest.next_id + np.arange(len(items), dtype=np.int64)
            codes = {name: code for code, name in enumerate(cameras) if name is not None}
            rows = Rows.of(items, embedding, ids=ids, cameras=codes, added=added)

            def write() -> Manifest:
                segments, number = append_segments(
                    self._folder, manifest.segments, manifest.next_segment, rows, manifest.space
                )
                return manifest.next(
                    segments=segments,
                    next_segment=number,
                    next_id=manifest.next_id + len(items),
                    cameras=cameras,
                )

            self._commit(write, "adding")
            return ids

    def search(self, query: Embedding, *, k: int, where: Where) -> list[Answer]:
        """Find the k nearest images of each query, see :meth:`Snapshot.search`.

        Args:
            query: embeddings of Q images.
            k: how many.
            where: which images may be found.

        Returns:
            One answer per query.
        """
        return self._snapshot.search(query, k=k, where=where, accelerator=self._accelerator)

    def contains(self, keys: Sequence[str]) -> NDArray[np.bool_]:
        """Tell which keys are there, see :meth:`Snapshot.find`.

        Args:
            keys: K names.

        Returns:
            Shape (K,).
        """
        return self._snapshot.find(keys) >= 0

    def was_deleted(self, keys: Sequence[str]) -> NDArray[np.bool_]:
        """Tell which keys were deleted at some time, see :meth:`Snapshot.was_deleted`.

        Args:
            keys: K names.

        Returns:
            Shape (K,).
        """
        return self._snapshot.was_deleted(keys)

    def keys(self, where: Where) -> Iterator[str]:
        """Iterate over keys as they are now, see :meth:`Snapshot.keys`.

        Args:
            where: which.

        Returns:
            Keys in the order they were added.
        """
        return self._snapshot.keys(where)

    def entries(self, *, where: Where, start: int, limit: int | None) -> list[Entry]:
        """List images in the order they were added, see :meth:`Snapshot.entries`.

        Args:
            where: which.
            start: how many to pass over.
            limit: how many at most; None for all.

        Returns:
            Entries.
        """
        return self._snapshot.entries(where=where, start=start, limit=limit)

    def entry(self, key: str) -> Entry:
        """Describe one image, see :meth:`Snapshot.place_of`.

        Args:
            key: its name.

        Returns:
            What is known of it.
        """
        part, row = self._snapshot.place_of(key)
        return part.entry(row)

    def embedding(self, keys: Sequence[str]) -> Embedding:
        """Return stored embeddings, see :meth:`Snapshot.embedding`.

        Args:
            keys: K names.

        Returns:
            Embeddings.
        """
        return self._snapshot.embedding(keys)

    def thumbnail(self, key: str) -> bytes | None:
        """Return the picture of an image, see :meth:`Snapshot.place_of`.

        Args:
            key: its name.

        Returns:
            Its bytes; None where there is none.
        """
        part, row = self._snapshot.place_of(key)
        return part.thumbnail(row)

    def delete(self, keys: Sequence[str]) -> int:
        """Hide images; keys that are not there are passed over.

        Args:
            keys: names.

        Returns:
            How many.
        """
        with self._mutex:
            self.lock()
            positions = self._snapshot.find(keys)
            chosen = np.zeros(int(self._snapshot.firsts[-1]), dtype=bool)
            chosen[positions[positions >= 0]] = True
            return self._delete(np.split(chosen, self._snapshot.firsts[1:-1]))

    def delete_where(self, where: Where) -> int:
        """Hide the images that pass.

        Args:
            where: conditions.

        Returns:
            How many.
        """
        with self._mutex:
            self.lock()
            return self._delete([part.passing(where) for part in self._snapshot.parts])

    def delete_older(self, deadline: float) -> int:
        """Hide images older than a deadline.

        Args:
            deadline: seconds since the epoch.

        Returns:
            How many.
        """
        with self._mutex:
            self.lock()
            return self._delete([part.older(deadline) for part in self._snapshot.parts])

    def purge(self) -> int:
        """Write segments that hold deleted images anew without them, and remove the old files.

        Returns:
            How many images were erased.

        Raises:
            GalleryError: if another process writes, data is damaged, the disk is full, or old files
                cannot be removed; the next writing call tries that again.
        """
        with self._mutex:
            self.lock()
            manifest = self._snapshot.manifest
            erased = sum(segment.num_deleted for segment in manifest.segments)
            used: set[int] = set()
            for part in self._snapshot.parts:
                used.update(np.unique(part.facts["camera"][part.alive]).tolist())
            cameras = tuple(n if c in used else None for c, n in enumerate(manifest.cameras))
            if not erased and cameras == manifest.cameras:
                return 0

            def write() -> Manifest:
                segments, number = rewrite_segments(self._folder, self._snapshot)
                listed = append_erased(self._folder, manifest.erased, self._snapshot.unlisted())
                return manifest.next(
                    segments=segments, next_segment=number, cameras=cameras, erased=listed
                )

            self._commit(write, "purging")
            self._sweep()
            return erased

    def stats(self) -> Stats:
        """Count, see :meth:`Snapshot.stats`.

        Returns:
            The counts.
        """
        num_bytes = 0
        for path in self._folder.rglob("*"):
            with contextlib.suppress(FileNotFoundError):  # a purge may just have removed it
                state = path.stat()
                num_bytes += state.st_size if stat.S_ISREG(state.st_mode) else 0
        return self._snapshot.stats(num_bytes)

    def verify(self) -> int:
        """Check every stored byte as it lies on the disk now, see :meth:`Snapshot.verify`.

        Returns:
            How many bytes.
        """
        self._check_open()
        snapshot = load_snapshot(self._folder)
        return snapshot.verify() + (self._folder / MANIFEST_NAME).stat().st_size

    def close(self) -> None:
        """Give back the lock and the mapped files; the second time nothing is left to do."""
        with self._mutex:
            self._is_closed = True
            self._current = None
            if self._lock_file is not None:
                self._lock_file.close()
                self._lock_file = None
                self._is_stale = True

    def _check_open(self) -> None:
        # A late call, of a thread say, must not take the lock that was given back.
        if self._is_closed:
            raise GalleryError(f"{self._folder}: the gallery is closed; open it again")

    def _take_lock(self) -> None:
        if self._lock_file is not None:
            return
        with wording("locking", self._folder):
            file = (self._folder / LOCK_NAME).open("ab")
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.close()
                raise GalleryBusyError(
                    f"{self._folder}: another process, or another Gallery object of this one, "
                    "writes to this gallery; close it, or wait until it ends"
                ) from None
            except OSError:
                file.close()
                raise
        self._lock_file = file

    def _commit(self, write: Callable[[], Manifest], what: str) -> None:
        # Whatever fails, the disk decides what counts: the next writing call reads it again.
        self._is_stale = True
        with wording(what, self._folder):
            manifest = write()
            sync_folder(self._folder / FOLDER_NAME)
            # From here on the old state may no longer be answered from.
            earlier, self._current = self._current, None
            write_manifest(self._folder, manifest)
        try:
            self._show(Snapshot(self._folder, manifest, earlier))
        except GalleryError as error:
            raise GalleryError(f"{what} was done, but then: {error}") from error
        self._is_stale = False

    def _delete(self, chosen: Sequence[NDArray[np.bool_]]) -> int:
        manifest = self._snapshot.manifest
        rows = [np.flatnonzero(mask) for mask in chosen]
        count = sum(map(len, rows))
        if not count:
            return 0

        def write() -> Manifest:
            segments = [
                append_deleted(self._folder, segment, some) if len(some) else segment
                for segment, some in zip(manifest.segments, rows, strict=False)
            ]
            hashes = [
                part.facts["hash"][some]
                for part, some in zip(self._snapshot.parts, rows, strict=True)
            ]
            erased = append_erased(self._folder, manifest.erased, np.concatenate(hashes))
            return manifest.next(segments=tuple(segments), erased=erased)

        self._commit(write, "deleting")
        return count

    def _sweep(self) -> None:
        # Files and bytes that the manifest does not count: of killed writers, or just purged.
        self._is_stale = True
        try:
            remove_uncounted(self._folder, self._snapshot.manifest)
        except OSError as error:
            raise GalleryError(
                f"{self._folder}: purged images and unfinished writes are out of every answer, but "
                f"their files could not be removed: {error.strerror or error}; purge again"
            ) from error
        self._is_stale = False


def _check_empty(folder: Path) -> None:
    # What a process killed while creating leaves is no gallery, and is written over.
    passed = (LOCK_NAME, FOLDER_NAME, f"{MANIFEST_NAME}.partial")
    others = sorted(path.name for path in folder.iterdir() if path.name not in passed)
    if others:
        raise GalleryError(
            f"{folder}: expected an empty folder for a new gallery, it holds {others[0]!r}"
        )


def _with_cameras(known: Sequence[str | None], names: Sequence[str]) -> tuple[str | None, ...]:
    cameras = list(known)
    for name in dict.fromkeys(names):
        if name in cameras:
            continue
        if None in cameras:
            cameras[cameras.index(None)] = name
        else:
            cameras.append(name)
    if len(cameras) > _MOST_CAMERAS:
        raise ConfigError(
            f"camera: expected at most {_MOST_CAMERAS} names in a gallery, got {len(cameras)}"
        )
    return tuple(cameras)
