"""The gallery: images by their embeddings, to add, search, delete and erase.

Letters: N images, Q queries, S streams (0 = HR space, 1 = LR space), D embedding.
"""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from resolute.core.errors import ConfigError, GalleryError, ProtocolError
from resolute.core.types import Embedding
from resolute.retrieval.accelerator import FaissAccelerator
from resolute.retrieval.embedded import EmbeddedEngine
from resolute.retrieval.engine import Engine
from resolute.retrieval.types import Answer, Entry, Item, Stats, VectorSpace, Where

DAY_S = 86_400.0
_LONGEST_VECTOR = 1e15  # float32 squares stay finite well beyond


class Gallery:
    """Embeddings of images with what is known of them, searchable.

    A gallery is a folder (:meth:`create`, :meth:`open`) or lies on another engine
    (``Gallery(QdrantEngine.create(...))``); every call is the same. One process writes at a time:
    the first writing call takes the lock and keeps it until :meth:`close`. Any number of others
    read; each sees the state of its opening until :meth:`refresh`. Calls may come from several
    threads.

    Args:
        engine: the store.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @classmethod
    def create(
        cls, folder: str | Path, *, space: VectorSpace, retention_days: float | None = None
    ) -> "Gallery":
        """Make an empty gallery in a folder and become its writer.

        Args:
            folder: a folder that is empty or not there yet.
            space: of the embeddings to come, see :meth:`VectorSpace.of`.
            retention_days: age in days after which :meth:`expire` erases; None for never.

        Returns:
            The gallery.

        Raises:
            GalleryError: if the folder holds something, or cannot be written.
            ConfigError: if the retention is not above 0.
        """
        return cls(EmbeddedEngine.create(Path(folder), space=space, retention_days=retention_days))

    @classmethod
    def open(
        cls,
        folder: str | Path,
        *,
        fingerprint: str | None = None,
        accelerator: FaissAccelerator | None = None,
    ) -> "Gallery":
        """Open a gallery; nothing is locked before the first writing call.

        Headers, lengths and the manifest are checked now, data at its first read.

        Args:
            folder: of :meth:`create`.
            fingerprint: of the model whose embeddings will come; None to check that later.
            accelerator: finds candidates for large galleries; None scans everything.

        Returns:
            The gallery.

        Raises:
            GalleryError: if there is no gallery, it is damaged, or of another model.
            ConfigError: if the accelerator cannot serve the gallery's fusion and metric.
        """
        gallery = cls(EmbeddedEngine.open(Path(folder), accelerator=accelerator))
        if fingerprint is not None:
            gallery.space.check_model(fingerprint)
        return gallery

    @property
    def space(self) -> VectorSpace:
        """The space of the stored embeddings."""
        return self._engine.space

    @property
    def retention_days(self) -> float | None:
        """Age in days after which :meth:`expire` erases; None for never."""
        return self._engine.retention_days

    def __len__(self) -> int:
        return self.stats().num_images

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and bool(self._engine.contains([key])[0])

    def __enter__(self) -> "Gallery":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def lock(self) -> None:
        """Become the writer now rather than at the first writing call.

        Raises:
            GalleryBusyError: if another process writes.
            GalleryError: if the folder cannot be written, or the gallery is damaged.
        """
        self._engine.lock()

    def refresh(self) -> None:
        """See what a writer in another process did since the gallery was opened.

        Raises:
            GalleryError: if the gallery is damaged or gone.
        """
        self._engine.refresh()

    def add(self, items: Sequence[Item], embedding: Embedding) -> NDArray[np.int64]:
        """Store images; when this returns they survive any crash.

        All are stored or none. Vectors and weights are kept as they come, bit for bit.

        Args:
            items: N images with new, distinct keys.
            embedding: their embeddings. Whoever gives one without a fingerprint vouches for it.

        Returns:
            Ids, ascending, shape (N,), int64; the order of adding decides between equal distances.

        Raises:
            GalleryError: if the embedding is of another space, a key is there already or comes
                twice, another process writes, or the disk is full (nothing is stored then).
            ProtocolError: if values are not finite, quality is negative, or zero in every stream
                where the fusion needs one.
        """
        self.space.check(embedding)
        if len(items) != len(embedding):
            raise GalleryError(
                f"add: expected as many items as embeddings, got {len(items)} and {len(embedding)}"
            )
        if len({item.key for item in items}) < len(items):
            seen: set[str] = set()
            twice = next(i.key for i in items if i.key in seen or seen.add(i.key))  # type: ignore[func-returns-value]
            raise GalleryError(f"add: key {twice!r} comes twice; keys name one image each")
        self._check_values("add", embedding)
        if not items:
            return np.empty(0, dtype=np.int64)
        return self._engine.add(items, embedding, added=time.time())

    def search(
        self,
        query: Embedding,
        *,
        k: int = 10,
        where: Where | None = None,
    ) -> list[Answer]:
        """Find the k nearest images of each query.

        Args:
            query: embeddings of Q images. Whoever gives one without a fingerprint vouches for it.
            k: how many images to find, >= 1.
            where: which images may be found; None for any.

        Returns:
            One answer per query, in their order. Several images of one person are pooled before
            they come here.

        Raises:
            GalleryError: if the query is of another space, or stored data is damaged.
            ProtocolError: if values are not finite, quality is negative or zero in every stream,
                or query and image have no stream that both trust.
            ConfigError: if ``k`` is not positive.
        """
        self.space.check(query)
        if k < 1:
            raise ConfigError(f"k: expected at least 1, got {k}")
        self._check_values("query", query)
        return self._engine.search(query, k=k, where=where or Where()) if len(query) else []

    def contains(self, keys: Sequence[str]) -> NDArray[np.bool_]:
        """Tell which keys are in the gallery, to skip their images before the network runs.

        Args:
            keys: N keys.

        Returns:
            True where an image of that key can be found, shape (N,).
        """
        return self._engine.contains(keys)

    def was_deleted(self, keys: Sequence[str]) -> NDArray[np.bool_]:
        """Tell which keys were deleted or expired at some time, not to put them back unasked.

        :meth:`add` takes them all the same. What is kept of a deleted key is a hash.

        Args:
            keys: N keys.

        Returns:
            True where an image of that key was deleted, be it there again or not, shape (N,).
        """
        return self._engine.was_deleted(keys)

    def keys(self, *, where: Where | None = None) -> Iterator[str]:
        """Iterate over the keys in the order they were added.

        Args:
            where: which images; None for all.

        Returns:
            Keys.
        """
        return self._engine.keys(where or Where())

    def entries(
        self, *, where: Where | None = None, start: int = 0, limit: int | None = None
    ) -> list[Entry]:
        """List what is known of the images, in the order they were added.

        Args:
            where: which images; None for all.
            start: how many of them to pass over, >= 0.
            limit: how many to list at most; None for all.

        Returns:
            Entries.
        """
        return self._engine.entries(where=where or Where(), start=start, limit=limit)

    def entry(self, key: str) -> Entry:
        """Describe one image.

        Args:
            key: its name.

        Returns:
            What is known of it.

        Raises:
            GalleryError: if no image has this key.
        """
        return self._engine.entry(key)

    def embedding(self, keys: Sequence[str]) -> Embedding:
        """Return stored embeddings, for example to search with an image of the gallery.

        Args:
            keys: N names.

        Returns:
            Embeddings in the order of the keys.

        Raises:
            GalleryError: if a key is not there.
        """
        return self._engine.embedding(keys)

    def thumbnail(self, key: str) -> bytes | None:
        """Return the picture kept of an image.

        Args:
            key: its name.

        Returns:
            The bytes given when it was added; None where none were.

        Raises:
            GalleryError: if no image has this key, or the picture is damaged.
        """
        return self._engine.thumbnail(key)

    def delete(self, keys: Sequence[str], *, on_missing: str = "raise") -> int:
        """Hide images from every later call. Their bytes stay until :meth:`purge`.

        Args:
            keys: names of the images.
            on_missing: ``raise`` or ``skip`` where a key is not there.

        Returns:
            How many images were deleted.

        Raises:
            GalleryError: if a key is not there (nothing is deleted then) or another process writes.
            ConfigError: if ``on_missing`` is unknown.
        """
        if on_missing not in ("raise", "skip"):
            raise ConfigError(f"on_missing: expected 'raise' or 'skip', got {on_missing!r}")
        self._engine.lock()
        if on_missing == "raise":
            missing = np.flatnonzero(~self._engine.contains(keys))
            if len(missing):
                raise GalleryError(
                    f"delete: {len(missing)} of {len(keys)} keys are not in the gallery, first "
                    f"{keys[missing[0]]!r}"
                )
        return self._engine.delete(keys)

    def delete_where(self, where: Where) -> int:
        """Hide all images that pass the conditions. Their bytes stay until :meth:`purge`.

        Args:
            where: at least one condition.

        Returns:
            How many images were deleted.

        Raises:
            ConfigError: if there is no condition: deleting everything is done by removing the
                folder.
            GalleryError: if another process writes.
        """
        if where.is_empty:
            raise ConfigError("delete: expected at least one condition, got none")
        self._engine.lock()
        return self._engine.delete_where(where)

    def purge(self) -> int:
        """Erase deleted images: no file of the gallery holds their vectors, keys or pictures after.

        Copies elsewhere (backups, snapshots of the file system, blocks a disk has not yet reused)
        are out of reach.

        Returns:
            How many images were erased.

        Raises:
            GalleryError: if another process writes, stored data is damaged, or the disk is full
                (nothing has changed then).
        """
        self._engine.lock()
        return self._engine.purge()

    def expire(self, now: float | None = None) -> int:
        """Delete and purge every image older than the retention.

        The age counts from the image's time, or from when it was added where the time is unknown
        or lies after that.

        Args:
            now: seconds since the epoch; None for the clock's.

        Returns:
            How many images were deleted; 0 where the gallery has no retention.

        Raises:
            GalleryError: as for :meth:`purge`.
        """
        if self.retention_days is None:
            return 0
        self._engine.lock()
        deadline = (time.time() if now is None else now) - self.retention_days * DAY_S
        count = self._engine.delete_older(deadline)
        self._engine.purge()
        return count

    def stats(self) -> Stats:
        """Count images, cameras and bytes.

        Returns:
            The counts.
        """
        return self._engine.stats()

    def verify(self) -> int:
        """Check every stored byte against its checksum.

        Returns:
            How many bytes were checked.

        Raises:
            GalleryError: if something is damaged; every damaged file is named.
        """
        return self._engine.verify()

    def close(self) -> None:
        """Give back the lock and the files; nothing is lost without it.

        It may be called again. Space and retention are told still; every other call raises
        :class:`GalleryError`.
        """
        self._engine.close()

    def _check_values(self, what: str, embedding: Embedding) -> None:
        vectors, quality = embedding.vectors, embedding.quality
        if not np.isfinite(vectors).all() or np.abs(vectors).max(initial=0) > _LONGEST_VECTOR:
            bad = np.flatnonzero(~(np.abs(vectors) <= _LONGEST_VECTOR).all(axis=(1, 2)))
            raise ProtocolError(
                f"{what}: {len(bad)} vectors are not finite or beyond {_LONGEST_VECTOR:g}, first "
                f"at image {bad[0]}"
            )
        if not (np.isfinite(quality) & (quality >= 0)).all():
            bad = np.flatnonzero(~(np.isfinite(quality) & (quality >= 0)).all(axis=1))
            raise ProtocolError(
                f"{what}: expected finite quality >= 0, got {quality[bad[0]].tolist()} at image "
                f"{bad[0]} ({len(bad)} such images)"
            )
        if self.space.num_streams == 2 and self.space.fusion in (
            "weighted",
            "query_weighted",
            "fused",
        ):
            bad = np.flatnonzero(quality.max(axis=1) == 0)
            if len(bad):
                raise ProtocolError(
                    f"{what}: image {bad[0]} has quality 0 in every stream ({len(bad)} such "
                    f"images), its distance under the fusion {self.space.fusion!r} is undefined"
                )
