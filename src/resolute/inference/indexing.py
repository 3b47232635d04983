"""A folder of images becomes a gallery: streamed, resumed, nothing skipped in silence."""

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from resolute.core.errors import ConfigError, DatasetError, GalleryError
from resolute.inference.embed import Pixels, windows
from resolute.inference.folder import Listing, Picture, list_images, stream
from resolute.inference.model import Model
from resolute.inference.native import resolution_flags
from resolute.retrieval.gallery import DAY_S, Gallery
from resolute.retrieval.place import create_gallery, is_gallery, is_server, open_gallery
from resolute.retrieval.thumbnails import thumbnail_of
from resolute.retrieval.types import Item, VectorSpace, check_retention

_MARKET = r"_(c\d+)[^/]*$"


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexOptions:
    """How a folder is indexed.

    Attributes:
        camera_pattern: ``market`` (names such as 0002_c1s1_000451_03.jpg), or a regular expression
            that finds the camera in a key as its first group; empty for no camera.
        prefix: put before every key, to tell folders of one gallery apart.
        is_timed: take the time of an image from its file's modification time.
        has_thumbnails: keep a small picture of each image.
        resolution: ``hr``, ``lr`` or ``auto`` for all images.
        batch_size: images per forward pass.
        on_error: ``raise`` at the first image that cannot be decoded or whose name cannot be a key,
            or ``skip`` and list it.
        retention_days: of a new gallery; None for never.
        with_deleted: put back images that were deleted from this gallery or have expired in it.
    """

    camera_pattern: str = ""
    prefix: str = ""
    is_timed: bool = False
    has_thumbnails: bool = True
    resolution: str = "auto"
    batch_size: int = 32
    on_error: str = "raise"
    retention_days: float | None = None
    with_deleted: bool = False

    def __post_init__(self) -> None:
        check_retention(self.retention_days)
        if self.on_error not in ("raise", "skip"):
            raise ConfigError(f"on_error: expected 'raise' or 'skip', got {self.on_error!r}")
        if self.batch_size < 1:
            raise ConfigError(f"batch_size: expected at least 1, got {self.batch_size}")
        try:
            groups = re.compile(self.camera_pattern).groups
        except re.error as error:
            raise ConfigError(f"camera pattern {self.camera_pattern!r}: {error}") from None
        if self.camera_pattern not in ("", "market") and not groups:
            raise ConfigError(
                f"camera pattern {self.camera_pattern!r}: expected a group in round brackets that "
                r"finds the camera, as in '(cam\d+)/'"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Indexed:
    """What an indexing did.

    Attributes:
        num_added: images added.
        num_known: images whose keys were in the gallery already.
        num_deleted: images passed over that were deleted from the gallery, or have expired in it.
        num_expired: images passed over whose time lies before what the gallery retains.
        num_ignored: side files passed over.
        skipped: images that could not be decoded or whose names cannot be keys, with the reason.
    """

    num_added: int
    num_known: int
    num_deleted: int
    num_expired: int
    num_ignored: int
    skipped: tuple[str, ...]


def index_folder(
    model: Model,
    folder: str | Path,
    place: str | Path,
    *,
    options: IndexOptions | None = None,
    api_key: str | None = None,
    told: Callable[[int, int], None] | None = None,
) -> Indexed:
    """Embed the images of a folder and add those that a gallery does not hold yet.

    The gallery is made where there is none. Interrupted at any point, the same call goes on. What
    was erased from the gallery stays out of it, although its file is there still.

    Args:
        model: embeds.
        folder: images, in sub-folders too; their paths below it are the keys.
        place: a folder for the gallery, or ``http://host:6333/collection``.
        options: how; None for the defaults.
        api_key: of the server.
        told: called with images done and in all; None for silence.

    Returns:
        What was done.

    Raises:
        DatasetError: if the folder cannot be read, an image cannot be decoded, or its name cannot
            be a key.
        GalleryError: if the gallery is of another model or cannot be written.
        ConfigError: if a key does not match the camera pattern, or the gallery would lie among the
            images.
    """
    options = options or IndexOptions()
    where = Path(place).expanduser().resolve()
    if not is_server(place) and where.is_relative_to(Path(folder).expanduser().resolve()):
        raise ConfigError(f"{place}: lies among the images of {folder}; put it somewhere else")
    listing = list_images(folder)
    cameras = [camera_of(key, options.camera_pattern) for key in listing.keys]
    writer = _Writer(model, place, options, api_key)
    try:
        names = [options.prefix + key for key in listing.keys]
        is_known = writer.contains(names)
        is_deleted = ~is_known & writer.was_deleted(names)
        new: dict[str, Item] = {}
        unfit: list[str] = []
        for i in np.flatnonzero(~is_known & ~is_deleted).tolist():
            try:
                new[listing.keys[i]] = _item(listing, i, names[i], cameras[i], options)
            except DatasetError as error:
                if options.on_error == "raise":
                    raise
                unfit.append(str(error))
        chosen = {k: item for k, item in new.items() if not writer.is_expired(item)}
        skipped: list[str] = []
        pictures = stream(listing.folder, list(chosen), on_error=options.on_error)
        # Each adding waits for the disk: images are added many at a time.
        for block in windows(pictures, _size_of, batch_size=options.batch_size):
            skipped += writer.add(block, chosen)
            if told is not None:
                told(writer.num_added + len(skipped), len(chosen))
    finally:
        writer.close()
    return Indexed(
        num_added=writer.num_added,
        num_known=int(is_known.sum()),
        num_deleted=int(is_deleted.sum()),
        num_expired=len(new) - len(chosen),
        num_ignored=listing.num_ignored,
        skipped=(*unfit, *skipped),
    )


def camera_of(key: str, pattern: str) -> str:
    """Find the camera in a key.

    Args:
        key: path with forward slashes.
        pattern: as in :class:`IndexOptions`.

    Returns:
        Its name; ``c`` and the number for Market-style names; empty without a pattern.

    Raises:
        ConfigError: if the key does not match.
    """
    if not pattern:
        return ""
    match = re.search(_MARKET if pattern == "market" else pattern, key)
    if match is None or match[1] is None:
        raise ConfigError(
            f"{key!r}: the camera pattern {pattern!r} finds no camera; change the pattern, or "
            "leave it out to index without cameras"
        )
    return match[1]


class _Writer:
    """The gallery, made when the first embedding says what space it lies in.

    Attributes:
        num_added: images added so far.
    """

    def __init__(
        self, model: Model, place: str | Path, options: IndexOptions, api_key: str | None
    ) -> None:
        self._model = model
        self._place = place
        self._options = options
        self._api_key = api_key
        self.num_added = 0
        self._gallery: Gallery | None = None
        if is_gallery(place, api_key=api_key):
            self._gallery = open_gallery(place, fingerprint=model.fingerprint, api_key=api_key)
            self._gallery.lock()
            days = self._gallery.retention_days
            if options.retention_days not in (None, days):
                self.close()
                raise GalleryError(
                    f"{place}: the retention is fixed when a gallery is made: expected {days} "
                    f"days or none given, got {options.retention_days}"
                )
        days = self._gallery.retention_days if self._gallery else options.retention_days
        self._deadline = -np.inf if days is None else time.time() - days * DAY_S

    def contains(self, keys: list[str]) -> NDArray[np.bool_]:
        """Tell which keys are there."""
        if self._gallery is None:
            return np.zeros(len(keys), dtype=bool)
        return self._gallery.contains(keys)

    def was_deleted(self, keys: list[str]) -> NDArray[np.bool_]:
        """Tell which keys were deleted and are not to be put back."""
        if self._gallery is None or self._options.with_deleted:
            return np.zeros(len(keys), dtype=bool)
        return self._gallery.was_deleted(keys)

    def is_expired(self, item: Item) -> bool:
        """Tell whether the next expiring would erase an image."""
        return item.time is not None and item.time < self._deadline

    def add(self, pictures: Sequence[Picture], items: Mapping[str, Item]) -> list[str]:
        """Embed and add the pictures that were decoded; say of the others why they were not."""
        whole = [(one.pixels, items[one.key]) for one in pictures if one.pixels is not None]
        if whole:
            self._add(whole)
        return [f"{one.key}: {one.error}" for one in pictures if one.pixels is None]

    def _add(self, whole: Sequence[tuple[Pixels, Item]]) -> None:
        (flag,) = resolution_flags(self._options.resolution, 1).tolist()
        embedding = self._model.embed_pixels(
            ((pixels, flag) for pixels, _ in whole), batch_size=self._options.batch_size
        )
        if self._gallery is None:
            self._gallery = create_gallery(
                self._place,
                space=VectorSpace.of(embedding),
                retention_days=self._options.retention_days,
                api_key=self._api_key,
            )
        items = [item for _, item in whole]
        if self._options.has_thumbnails:
            items = [replace(item, thumbnail=thumbnail_of(pixels)) for pixels, item in whole]
        self._gallery.add(items, embedding)
        self.num_added += len(items)

    def close(self) -> None:
        """Give back the lock."""
        if self._gallery is not None:
            self._gallery.close()


def _item(listing: Listing, i: int, name: str, camera: str, options: IndexOptions) -> Item:
    key = listing.keys[i]
    try:
        return Item(key=name, camera=camera, time=_time_of(listing, key, options))
    except GalleryError as error:
        # Quoted: control characters would act on the terminal.
        raise DatasetError(f"{key!r}: the name is no key ({error}); rename the file") from None


def _time_of(listing: Listing, key: str, options: IndexOptions) -> float | None:
    if not options.is_timed:
        return None
    try:
        return listing.path(key).stat().st_mtime
    except OSError:
        return None  # what is wrong with it is said when it is decoded


def _size_of(picture: Picture) -> int:
    return 0 if picture.pixels is None else picture.pixels.nbytes
