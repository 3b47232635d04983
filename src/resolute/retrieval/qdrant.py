"""Galleries on a Qdrant server, for those that outgrow a machine.

Each image is one point: the fused vector u and the weights divided by their length. The server
ranks candidates by the exact weighted similarity, <u_q, u_g> / rho with rho = cos(theta_q -
theta_g), theta the angle of the two weights [ours]; the few it returns are rescored in
float64. Sharding and replication are Qdrant's and change no score, as the formula looks at query
and point alone.

Letters: Q queries, C candidates, S streams, D embedding.
"""

import base64
import itertools
import secrets
import time
import uuid
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resolute.core.distance import fused_vectors
from resolute.core.errors import ConfigError, GalleryError, ProtocolError
from resolute.core.types import Embedding
from resolute.retrieval.client import check_client
from resolute.retrieval.finder import NORMALISED, Finder
from resolute.retrieval.points import SHOWN, VECTOR, entry_of, filter_of, payload_of, recovered
from resolute.retrieval.types import (
    Answer,
    Entry,
    Item,
    Stats,
    VectorSpace,
    Where,
    check_retention,
)

# A second collection: what the gallery is, as payload of point 0, and ids of deleted images.
_ABOUT = "-about"
_PAGE = 256
# An order is the time in steps of 2^16 ns, then 8 bits that tell writers apart: below 2^53 until
# 2043, so that clients and servers that read floats keep it.
_TICK_BITS = 16
_TAG_BITS = 8


class QdrantEngine:
    """A gallery in a Qdrant collection. Made by :meth:`create` and :meth:`open`.

    There is no lock: writers of distinct keys may run side by side. Deleted images are gone from
    every answer at once; when their bytes leave the server's disks is decided by its optimiser.
    """

    def __init__(
        self, client: Any, name: str, about: dict[str, Any], *, is_approximate: bool
    ) -> None:
        self._own_client: Any | None = client
        self._name = name
        self._about = about
        self._space = VectorSpace(**about["space"])
        self._is_local = hasattr(client, "_client") and hasattr(client._client, "location")
        self._is_approximate = is_approximate
        self._tag = secrets.randbits(_TAG_BITS)  # of this writer; in no answer but its ids
        self._last_tick = 0
        self._num_deleted = 0

    @classmethod
    def create(
        cls,
        client: Any,
        name: str,
        *,
        space: VectorSpace,
        retention_days: float | None = None,
        is_approximate: bool = False,
    ) -> "QdrantEngine":
        """Make an empty collection.

        Args:
            client: of :func:`resolute.retrieval.client.connect`.
            name: of the collection; ``<name>-about`` is made beside it.
            space: of the embeddings to come.
            retention_days: None for never.
            is_approximate: search by the server's graph in place of all points; answers then say
                that they are not proven exact.

        Returns:
            The engine.

        Raises:
            GalleryError: if the collection is there already.
            ConfigError: if one stored vector cannot serve the space's fusion and metric, or the
                retention is not above 0.
        """
        check_retention(retention_days)
        _check_servable(space)
        check_client(client)
        from qdrant_client import models

        if client.collection_exists(name):
            raise GalleryError(f"qdrant: collection {name!r} is there already")
        about = {
            "space": {field: getattr(space, field) for field in space.__slots__},
            "retention_days": retention_days,
        }
        engine = cls(client, name, about, is_approximate=is_approximate)
        client.create_collection(
            name,
            vectors_config={
                VECTOR: models.VectorParams(
                    size=space.num_streams * space.dim, distance=models.Distance.DOT
                )
            },
        )
        if not engine._is_local:  # the client's memory has no indexes
            for field, kind in (
                ("camera", "keyword"),
                ("time", "float"),
                ("age", "float"),
                ("reliability", "float"),
                ("theta", "float"),
                ("order", "integer"),
            ):
                client.create_payload_index(name, field, field_schema=kind, wait=True)
        client.create_collection(
            name + _ABOUT,
            vectors_config=models.VectorParams(size=1, distance=models.Distance.DOT),
        )
        point = models.PointStruct(id=0, vector=[0.0], payload=about)
        client.upsert(name + _ABOUT, [point], wait=True)
        return engine

    @classmethod
    def open(cls, client: Any, name: str, *, is_approximate: bool = False) -> "QdrantEngine":
        """Open a collection made by :meth:`create`.

        Args:
            client: of :func:`resolute.retrieval.client.connect`.
            name: of the collection.
            is_approximate: as for :meth:`create`.

        Returns:
            The engine.

        Raises:
            GalleryError: if there is no such gallery.
        """
        check_client(client)
        if not client.collection_exists(name) or not client.collection_exists(name + _ABOUT):
            raise GalleryError(f"qdrant: no gallery {name!r} on this server")
        points = client.retrieve(name + _ABOUT, ids=[0], with_payload=True)
        try:
            return cls(client, name, points[0].payload, is_approximate=is_approximate)
        except (IndexError, KeyError, TypeError) as error:
            raise GalleryError(f"qdrant: {name}{_ABOUT} describes no gallery ({error})") from None

    @property
    def _client(self) -> Any:
        if self._own_client is None:
            raise GalleryError(f"qdrant: the gallery {self._name!r} is closed; open it again")
        return self._own_client

    @property
    def space(self) -> VectorSpace:
        """Return the space of the stored embeddings."""
        return self._space

    @property
    def retention_days(self) -> float | None:
        """Return the age in days after which images are to be erased; None for never."""
        days = self._about["retention_days"]
        return None if days is None else float(days)

    def lock(self) -> None:
        """Do nothing: the server orders its writers.

        Raises:
            GalleryError: if the gallery is closed.
        """
        _ = self._client

    def refresh(self) -> None:
        """Do nothing: every call sees the server as it is.

        Raises:
            GalleryError: if the gallery is closed.
        """
        _ = self._client

    def add(
        self, items: Sequence[Item], embedding: Embedding, *, added: float
    ) -> NDArray[np.int64]:
        """Store images.

        Args:
            items: N images with distinct keys.
            embedding: theirs.
            added: now, seconds since the epoch.

        Returns:
            Ids, shape (N,): of the clock, pushed apart.

        Raises:
            GalleryError: if a key is there already.
            ProtocolError: if a vector is not normalised, or a weight is 0.
        """
        from qdrant_client import models

        self._check(embedding)
        there = np.flatnonzero(self.contains([item.key for item in items]))
        if len(there):
            raise GalleryError(
                f"add: {len(there)} of {len(items)} keys are in the gallery already, first "
                f"{items[there[0]].key!r}; delete them first or leave them out"
            )
        first = max(self._last_tick + 1, time.time_ns() >> _TICK_BITS)
        ticks = first + np.arange(len(items), dtype=np.int64)
        self._last_tick = int(ticks[-1])
        orders = (ticks << _TAG_BITS) + self._tag
        vectors = fused_vectors(embedding)
        points = [
            models.PointStruct(
                id=_point_id(item.key),
                vector={VECTOR: vectors[i].tolist()},
                payload=payload_of(item, embedding, i, order=int(orders[i]), added=added),
            )
            for i, item in enumerate(items)
        ]
        for start in range(0, len(points), _PAGE):
            self._client.upsert(self._name, points[start : start + _PAGE], wait=True)
        return orders

    def search(self, query: Embedding, *, k: int, where: Where) -> list[Answer]:
        """Find the k nearest images of each query.

        Args:
            query: embeddings of Q images.
            k: how many.
            where: which images may be found.

        Returns:
            One answer per query. It is proven exact when no image outside the candidates can be
            nearer than the k-th hit, given the range of the stored weights.

        Raises:
            ProtocolError: if a vector is not normalised, or a weight is 0.
        """
        self._check(query)
        finder = Finder(
            self._client,
            self._name,
            self._space,
            is_local=self._is_local,
            is_approximate=self._is_approximate,
        )
        thetas = (self._extreme("theta", "asc"), self._extreme("theta", "desc"))
        return finder.search(query, k=k, where=where, thetas=thetas)

    def contains(self, keys: Sequence[str]) -> NDArray[np.bool_]:
        """Tell which keys are there.

        Args:
            keys: N names.

        Returns:
            Shape (N,).
        """
        return self._found(self._name, keys)

    def was_deleted(self, keys: Sequence[str]) -> NDArray[np.bool_]:
        """Tell which keys were deleted at some time: ``<name>-about`` keeps their hashes.

        Args:
            keys: N names.

        Returns:
            Shape (N,).
        """
        return self._found(self._name + _ABOUT, keys)

    def keys(self, where: Where) -> Iterator[str]:
        """Iterate over keys in the order they were added.

        Args:
            where: which.

        Yields:
            Keys.
        """
        for record in self._scroll(filter_of(where)):
            yield record.payload["key"]

    def entries(self, *, where: Where, start: int, limit: int | None) -> list[Entry]:
        """List images in the order they were added.

        Args:
            where: which.
            start: how many to pass over.
            limit: how many at most; None for all.

        Returns:
            Entries.
        """
        listed: list[Entry] = []
        for at, record in enumerate(self._scroll(filter_of(where))):
            if limit is not None and at >= start + limit:
                break
            if at >= start:
                listed.append(entry_of(record.payload))
        return listed

    def entry(self, key: str) -> Entry:
        """Describe one image.

        Args:
            key: its name.

        Returns:
            What is known of it.

        Raises:
            GalleryError: if no image has this key.
        """
        return entry_of(self._record(key, SHOWN).payload)

    def embedding(self, keys: Sequence[str]) -> Embedding:
        """Return stored embeddings; vectors come back within float32 rounding.

        Args:
            keys: N names.

        Returns:
            Embeddings.

        Raises:
            GalleryError: if a key is not there.
        """
        records = [self._record(key, SHOWN) for key in keys]
        return recovered(self._space, records)

    def thumbnail(self, key: str) -> bytes | None:
        """Return the picture of an image.

        Args:
            key: its name.

        Returns:
            Its bytes; None where there is none.

        Raises:
            GalleryError: if no image has this key.
        """
        text = self._record(key, ["thumbnail"]).payload.get("thumbnail")
        return None if text is None else base64.b64decode(text)

    def delete(self, keys: Sequence[str]) -> int:
        """Remove images; keys that are not there are passed over.

        Args:
            keys: names.

        Returns:
            How many.
        """
        names = sorted(set(keys))
        there = self.contains(names)
        return self._delete([_point_id(name) for name in itertools.compress(names, there)])

    def delete_where(self, where: Where) -> int:
        """Remove the images that pass.

        Args:
            where: conditions.

        Returns:
            How many.
        """
        return self._delete([record.id for record in self._scroll(filter_of(where))])

    def delete_older(self, deadline: float) -> int:
        """Remove images older than a deadline.

        Args:
            deadline: seconds since the epoch.

        Returns:
            How many.
        """
        from qdrant_client import models

        older = models.FieldCondition(key="age", range=models.Range(lt=deadline))
        found = self._scroll(models.Filter(must=[older]))
        return self._delete([record.id for record in found])

    def purge(self) -> int:
        """Ask the server's optimiser to rewrite segments with deleted points.

        Whether the bytes are gone from its disks cannot be seen from here; dropping the collection,
        or a shard of its own per month, removes files.

        Returns:
            How many images this engine deleted since the last purge.
        """
        from qdrant_client import models

        if not self._is_local:
            eager = models.OptimizersConfigDiff(
                deleted_threshold=0.001, vacuum_min_vector_number=100
            )
            self._client.update_collection(self._name, optimizers_config=eager)
        erased, self._num_deleted = self._num_deleted, 0
        return erased

    def stats(self) -> Stats:
        """Count.

        Returns:
            The counts.
        """
        facets = self._client.facet(self._name, "camera", limit=65_536, exact=True).hits
        cameras = {str(hit.value): hit.count for hit in facets if hit.count}
        first, last = self._extreme("time", "asc"), self._extreme("time", "desc")
        return Stats(
            engine="qdrant",
            space=self._space,
            num_images=self._client.count(self._name, exact=True).count,
            num_deleted=self._num_deleted,
            num_bytes=0,
            cameras=dict(sorted(cameras.items())),
            first_time=first,
            last_time=last,
            retention_days=self.retention_days,
        )

    def verify(self) -> int:
        """Read every point and check that it is whole.

        Returns:
            Bytes of vectors read.

        Raises:
            GalleryError: if a point is not one of a gallery.
        """
        num_bytes = 0
        for record in self._scroll(None, with_vectors=True):
            try:
                entry = entry_of(record.payload)
                vector = np.array(record.vector[VECTOR])
            except (KeyError, TypeError, ValueError) as error:
                raise GalleryError(f"qdrant: point {record.id} lacks {error}") from None
            is_whole = abs(np.linalg.norm(vector) - 1) < 2 * NORMALISED
            if str(record.id) != _point_id(entry.key) or not is_whole:
                raise GalleryError(f"qdrant: point {record.id} is not that of {entry.key!r}")
            num_bytes += 4 * vector.size
        return num_bytes

    def close(self) -> None:
        """Leave the client to its owner."""
        self._own_client = None

    def _check(self, embedding: Embedding) -> None:
        lengths = np.linalg.norm(embedding.vectors.astype(np.float64), axis=2)
        far = np.abs(lengths - 1) > NORMALISED
        if far.any():
            raise ProtocolError(
                "qdrant: expected normalised vectors, got one of length "
                f"{lengths[far][0]:.3g}; use the embedded engine for others"
            )
        if self._space.num_streams == 2 and (embedding.quality <= 0).any():
            raise ProtocolError("qdrant: expected quality above 0, use the embedded engine")

    def _found(self, collection: str, keys: Sequence[str]) -> NDArray[np.bool_]:
        found: set[str] = set()
        for start in range(0, len(keys), _PAGE):
            ids = [_point_id(key) for key in keys[start : start + _PAGE]]
            records = self._client.retrieve(
                collection, ids=ids, with_payload=False, with_vectors=False
            )
            found.update(str(record.id) for record in records)
        return np.array([_point_id(key) in found for key in keys], dtype=bool)

    def _delete(self, ids: list[Any]) -> int:
        from qdrant_client import models

        for start in range(0, len(ids), _PAGE):
            page = ids[start : start + _PAGE]
            # Noted first: an image is never gone and put back by the next indexing.
            notes = [models.PointStruct(id=one, vector=[0.0], payload={}) for one in page]
            self._client.upsert(self._name + _ABOUT, notes, wait=True)
            chosen = models.PointIdsList(points=page)
            self._client.delete(self._name, points_selector=chosen, wait=True)
        self._num_deleted += len(ids)
        return len(ids)

    def _scroll(self, condition: Any, *, with_vectors: bool = False) -> Iterator[Any]:
        from qdrant_client import models

        # Two writers may give one order, and a page may end between their images: the next one
        # begins with the last order again, and is larger if the page held no other.
        start: int | None = None
        seen: set[Any] = set()
        limit = _PAGE
        while True:
            records, _ = self._client.scroll(
                self._name,
                scroll_filter=condition,
                order_by=models.OrderBy(key="order", start_from=start),
                limit=limit,
                with_payload=SHOWN,
                with_vectors=with_vectors,
            )
            yield from (record for record in records if record.id not in seen)
            if len(records) < limit:
                return
            last = int(records[-1].payload["order"])
            if last != start:
                start, seen, limit = last, set(), _PAGE
            else:
                limit *= 2
            seen |= {record.id for record in records if record.payload["order"] == last}

    def _extreme(self, field: str, direction: str) -> float | None:
        from qdrant_client import models

        order = models.OrderBy(key=field, direction=models.Direction(direction))
        records, _ = self._client.scroll(
            self._name, order_by=order, limit=1, with_payload=[field], with_vectors=False
        )
        return float(records[0].payload[field]) if records else None

    def _record(self, key: str, fields: list[str]) -> Any:
        records = self._client.retrieve(
            self._name, ids=[_point_id(key)], with_payload=fields, with_vectors=True
        )
        if not records:
            raise GalleryError(f"no image {key!r} in the gallery")
        return records[0]


def _point_id(key: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, key))


def _check_servable(space: VectorSpace) -> None:
    if space.num_streams == 1 or space.fusion == "fused":
        return
    if space.fusion != "weighted" or space.metric != "sqeuclidean":
        raise ConfigError(
            "qdrant: one stored vector serves the fusions 'weighted' (sqeuclidean) and 'fused', "
            f"got {space.fusion!r} ({space.metric}); use the embedded engine"
        )
