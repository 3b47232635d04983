"""A folder of images becomes a gallery: streamed, resumed, nothing skipped in silence."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from resolute.core.errors import ConfigError, GalleryError
from resolute.inference.folder import Listing, Picture, list_images, stream
from resolute.inference.model import Model
from resolute.inference.native import resolution_flags
from resolute.retrieval.gallery import Gallery
from resolute.retrieval.place import create_gallery, is_gallery, is_server, open_gallery
from resolute.retrieval.thumbnails import thumbnail_of
from resolute.retrieval.types import Item, VectorSpace

_MARKET = r"_(c\d+)[^/]*$"
_BLOCK_BATCHES = 8  # images are added this many batches at a time: each adding waits for the disk


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
        on_error: ``raise`` at the first image that cannot be decoded, or ``skip`` and list it.
        retention_days: of a new gallery; None for never.
    """

    camera_pattern: str = ""
    prefix: str = ""
    is_timed: bool = False
    has_thumbnails: bool = True
    resolution: str = "auto"
    batch_size: int = 32
    on_error: str = "raise"
    retention_days: float | None = None

    def __post_init__(self) -> None:
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
        num_ignored: side files passed over.
        skipped: images that could not be decoded, with the reason.
    """

    num_added: int
    num_known: int
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

    The gallery is made where there is none. Interrupted at any point, the same call goes on.

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
        DatasetError: if the folder cannot be read or an image cannot be decoded.
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
        wanted = ~writer.contains([options.prefix + key for key in listing.keys])
        chosen = np.flatnonzero(wanted).tolist()
        camera_by_key = {listing.keys[i]: cameras[i] for i in chosen}
        skipped: list[str] = []
        num_added = 0
        pictures = stream(listing.folder, list(camera_by_key), on_error=options.on_error)
        while block := list(islice(pictures, _BLOCK_BATCHES * options.batch_size)):
            skipped += [f"{one.key}: {one.error}" for one in block if one.pixels is None]
            whole = [one for one in block if one.pixels is not None]
            writer.add(whole, [_item(one, listing, camera_by_key, options) for one in whole])
            num_added += len(whole)
            if told is not None:
                told(num_added + len(skipped), len(chosen))
    finally:
        writer.close()
    return Indexed(
        num_added=num_added,
        num_known=len(listing.keys) - len(chosen),
        num_ignored=listing.num_ignored,
        skipped=tuple(skipped),
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
    """The gallery, made when the first embedding says what space it lies in."""

    def __init__(
        self, model: Model, place: str | Path, options: IndexOptions, api_key: str | None
    ) -> None:
        self._model = model
        self._place = place
        self._options = options
        self._api_key = api_key
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

    def contains(self, keys: list[str]) -> NDArray[np.bool_]:
        """Tell which keys are there."""
        if self._gallery is None:
            return np.zeros(len(keys), dtype=bool)
        return self._gallery.contains(keys)

    def add(self, pictures: Sequence[Picture], items: Sequence[Item]) -> None:
        """Embed decoded pictures and add them."""
        if not pictures:
            return
        flags = resolution_flags(self._options.resolution, len(pictures)).tolist()
        pixels = (one.pixels for one in pictures if one.pixels is not None)
        embedding = self._model.embed_pixels(
            zip(pixels, flags, strict=True), batch_size=self._options.batch_size
        )
        if self._gallery is None:
            self._gallery = create_gallery(
                self._place,
                space=VectorSpace.of(embedding, fingerprint=self._model.fingerprint),
                retention_days=self._options.retention_days,
                api_key=self._api_key,
            )
        self._gallery.add(items, embedding, fingerprint=self._model.fingerprint)

    def close(self) -> None:
        """Give back the lock."""
        if self._gallery is not None:
            self._gallery.close()


def _item(
    picture: Picture, listing: Listing, cameras: dict[str, str], options: IndexOptions
) -> Item:
    pixels = picture.pixels if options.has_thumbnails else None
    return Item(
        key=options.prefix + picture.key,
        camera=cameras[picture.key],
        time=listing.path(picture.key).stat().st_mtime if options.is_timed else None,
        thumbnail=None if pixels is None else thumbnail_of(pixels),
    )
