"""What the server does: embed, compare, search, add, delete, and write each down."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from resolute.core.errors import ConfigError, GalleryError
from resolute.core.types import Embedding
from resolute.inference.calibration import Calibration
from resolute.inference.compare import Comparison, compare_pixels, why_no_probability
from resolute.inference.model import Model
from resolute.inference.pooling import pool
from resolute.retrieval.gallery import Gallery
from resolute.retrieval.thumbnails import thumbnail_of
from resolute.retrieval.types import Answer, Item, Where
from resolute.service.audit import AuditLog, hash_of
from resolute.service.config import ServeConfig
from resolute.service.embedder import Embedder, Picture
from resolute.service.fields import is_text
from resolute.service.meters import Meters
from resolute.service.pictures import decode_all
from resolute.service.problem import Problem
from resolute.service.replies import hit_replies, image_reply
from resolute.service.schemas import SearchReply

T = TypeVar("T")

_LOG = logging.getLogger(__name__)

MOST_HITS = 200
MOST_DELETED = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """What is searched for, and where.

    Attributes:
        files: bytes of images of one person; or none, and keys.
        keys: names of gallery images of one person.
        k: candidates wanted.
        where: conditions on them.
        resolution: ``hr``, ``lr`` or ``auto``, of the files.
        prior: chance of one person before looking; None takes the calibration's.
    """

    files: Sequence[bytes]
    keys: Sequence[str]
    k: int
    where: Where
    resolution: str = "auto"
    prior: float | None = None


class Desk:
    """A gallery, the model that it was made with, and the log of what is asked of them.

    Args:
        folder: of the gallery.
        model: embeds; must be the gallery's.
        config: limits.
        audit_folder: of the audit log; None for ``NAME.audit`` beside the gallery.

    Raises:
        GalleryError: if the gallery is damaged, of another model, or written by another process.
    """

    def __init__(
        self,
        folder: str | Path,
        model: Model,
        *,
        config: ServeConfig,
        audit_folder: str | Path | None = None,
    ) -> None:
        self.folder = Path(folder)
        self.model = model
        self.config = config
        self.gallery = Gallery.open(folder, fingerprint=model.fingerprint)
        if not config.read_only:
            self.gallery.lock()
        try:
            self.audit = AuditLog(audit_folder or audit_folder_of(self.folder))
        except GalleryError:
            self.gallery.close()
            raise
        if model.calibration is not None and self.calibration is None:
            _LOG.warning("%s", why_no_probability(model.calibration, self.gallery.space))
        self.meters = Meters(
            num_images=lambda: len(self.gallery), num_waiting=lambda: self.embedder.num_waiting
        )
        self.embedder = Embedder(
            model,
            space=self.gallery.space,
            max_waiting=config.max_waiting,
            told=self.meters.embedded,
        )

    @property
    def calibration(self) -> Calibration | None:
        """What the gallery's distances are worth; None where nobody fitted that."""
        calibration = self.model.calibration
        is_known = calibration is not None and calibration.fits(self.gallery.space)
        return calibration if is_known else None

    async def decode(self, files: Sequence[bytes], resolution: str = "auto") -> list[Picture]:
        """Decode the images of a request, with its limits.

        Args:
            files: bytes of each.
            resolution: ``hr``, ``lr`` or ``auto``.

        Returns:
            Pixels and flags.
        """
        self.embedder.check_room()
        return await asyncio.to_thread(
            decode_all,
            files,
            resolution=resolution,
            max_pixels=self.config.max_pixels,
            max_bytes=self.config.max_bytes,
        )

    async def embed(self, pictures: Sequence[Picture]) -> Embedding:
        """Embed decoded images.

        Args:
            pictures: of one request.

        Returns:
            Their embeddings.
        """
        return await asyncio.wrap_future(self.embedder.submit(pictures))

    async def compare(
        self,
        a: Sequence[bytes],
        b: Sequence[bytes],
        *,
        resolution: str,
        prior: float | None,
        who: str,
    ) -> Comparison:
        """Compare two people, each by one image or several.

        Args:
            a: bytes of images of one person.
            b: bytes of images of one person.
            resolution: ``hr``, ``lr`` or ``auto``, of all.
            prior: chance of one person before looking; None takes the calibration's.
            who: asks.

        Returns:
            What the model says.

        Raises:
            Problem: if a side has no image.
        """
        if not a or not b:
            raise Problem(422, "bad_value", "expected at least one image a and one image b")
        _check_prior(prior)
        pictures = await self.decode([*a, *b], resolution)
        pixels = [picture for picture, _ in pictures]
        found = await asyncio.to_thread(
            compare_pixels,
            (pixels[: len(a)], pixels[len(a) :]),
            await self.embed(pictures),
            calibration=self.model.calibration,  # where it does not fit, the warnings say so
            height_reference=self.model.height_reference,
            prior=prior,
        )
        await self.note("compare", who=who, query=hash_of([*a, *b]), num_images=len(pictures))
        return found

    async def search(self, query: Query, *, who: str) -> SearchReply:
        """Rank the gallery by distance to one person.

        Args:
            query: images of the person, and conditions.
            who: asks.

        Returns:
            Candidates, nearest first.

        Raises:
            Problem: if the query is empty or mixed, or names an image that is not there.
        """
        if bool(query.files) == bool(query.keys):
            raise Problem(422, "bad_value", "expected images or keys of the gallery, one of both")
        if not 1 <= query.k <= MOST_HITS:
            raise Problem(422, "bad_value", f"k: expected 1 to {MOST_HITS}, got {query.k}")
        if len(query.keys) > self.config.max_images:
            raise Problem(422, "bad_value", f"expected at most {self.config.max_images} keys")
        _check_prior(query.prior)
        if query.files:
            embedding = await self.embed(await self.decode(query.files, query.resolution))
        else:
            embedding = await self.there(query.keys, lambda: self.gallery.embedding(query.keys))
        pooled = pool(embedding)
        answer, shown = await asyncio.to_thread(self._find, pooled, query)
        hits = [hit for hit in answer.hits if hit.key not in query.keys][: query.k]
        await self.note(
            "search",
            who=who,
            query=hash_of(query.files or [key.encode() for key in query.keys]),
            where={n: v for n, v in asdict(query.where).items() if v not in (None, ())},
            k=query.k,
            found=[hit.id for hit in hits],
        )
        calibration = self.calibration
        prior = query.prior
        if calibration is not None and prior is None:
            prior = calibration.prior
        return SearchReply(
            query=image_reply(pooled),
            num_query_images=len(embedding),
            hits=hit_replies(
                hits, [shown[hit.id] for hit in hits], calibration=calibration, prior=prior
            ),
            exact=answer.exact,
            num_compared=answer.num_compared,
            calibrated_on=calibration.data if calibration else None,
            prior=prior if calibration else None,
        )

    async def add(
        self, content: bytes, item: Item, *, resolution: str, with_thumbnail: bool, who: str
    ) -> tuple[int, Embedding]:
        """Store one image.

        Args:
            content: bytes of its file.
            item: its key, camera and time.
            resolution: ``hr``, ``lr`` or ``auto``.
            with_thumbnail: keep a small picture, drawn anew from the pixels.
            who: asks.

        Returns:
            Its number and embedding.

        Raises:
            Problem: if the server only reads, or the key is there already.
        """
        self.check_writing()
        if item.key in self.gallery:
            raise Problem(409, "exists", "an image of this key is in the gallery already")
        pictures = await self.decode([content], resolution)
        embedding = await self.embed(pictures)
        picture = thumbnail_of(pictures[0][0]) if with_thumbnail else None
        kept = Item(key=item.key, camera=item.camera, time=item.time, thumbnail=picture)
        ids = await asyncio.to_thread(self.gallery.add, [kept], embedding)
        await self.note("add", who=who, query=hash_of([content]), added=ids.tolist())
        return int(ids[0]), embedding

    async def delete(self, keys: Sequence[str], *, with_purge: bool, who: str) -> tuple[int, int]:
        """Delete images.

        Args:
            keys: their names.
            with_purge: erase their bytes now.
            who: asks.

        Returns:
            How many were deleted, and how many erased.

        Raises:
            Problem: if the server only reads, a key is not there, or they are too many.
        """
        self.check_writing()
        names = list(dict.fromkeys(keys))
        if len(names) > MOST_DELETED:
            raise Problem(422, "bad_value", f"expected at most {MOST_DELETED} keys")

        def work() -> tuple[list[int], int, int]:
            ids = [self.gallery.entry(key).id for key in names]
            deleted = self.gallery.delete(names)
            return ids, deleted, self.gallery.purge() if with_purge else 0

        ids, deleted, purged = await self.there(names, work)
        await self.note("delete", who=who, deleted=sorted(ids), num_purged=purged)
        return deleted, purged

    async def there(self, keys: Sequence[str], work: Callable[[], T]) -> T:
        """Do something with images that must be in the gallery.

        Args:
            keys: their names.
            work: runs in a thread.

        Returns:
            What the work returns.

        Raises:
            Problem: if there is no key, or an image is not there.
        """
        if not keys:
            raise Problem(422, "bad_value", "expected at least one key, got none")
        known = [key for key in keys if is_text(key)]
        missing = len(keys) - int((await asyncio.to_thread(self.gallery.contains, known)).sum())
        if missing:
            raise Problem(404, "not_found", f"{missing} of {len(keys)} keys are not in the gallery")
        return await asyncio.to_thread(work)

    def check_writing(self) -> None:
        """Refuse where the server only reads.

        Raises:
            Problem: 403, if it does.
        """
        if self.config.read_only:
            raise Problem(403, "read_only", "this server only reads: adding and deleting are off")

    async def note(self, action: str, *, who: str, **facts: Any) -> None:
        """Write an event into the audit log.

        Args:
            action: what was done.
            who: did it.
            **facts: what is to be kept of it.
        """
        fingerprint = self.gallery.space.fingerprint
        await asyncio.to_thread(
            lambda: self.audit.write(action, who=who, gallery=fingerprint, **facts)
        )

    def close(self) -> None:
        """Finish what waits, then give back the gallery and the log."""
        self.embedder.close()
        self.gallery.close()
        self.audit.close()

    def _find(self, pooled: Embedding, query: Query) -> tuple[Answer, dict[int, bool]]:
        # An image of the query would find itself: as many more are asked for, and left out.
        wanted = query.k + len(query.keys)
        (answer,) = self.gallery.search(pooled, k=wanted, where=query.where)
        shown: dict[int, bool] = {}
        for hit in answer.hits:
            try:
                shown[hit.id] = self.gallery.entry(hit.key).has_thumbnail
            except GalleryError:  # deleted since
                shown[hit.id] = False
        return answer, shown


def audit_folder_of(gallery: Path) -> Path:
    """Return where the audit log of a gallery lies.

    Args:
        gallery: its folder.
    """
    gallery = gallery.resolve()
    return gallery.with_name(f"{gallery.name}.audit")


def _check_prior(prior: float | None) -> None:
    if prior is not None and not 0 < prior < 1:
        raise ConfigError(f"prior: expected a chance between 0 and 1, got {prior}")
