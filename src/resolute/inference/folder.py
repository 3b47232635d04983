"""Stream any number of images of a folder: sorted, decoded ahead, in bounded memory."""

import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from resolute.core.errors import DatasetError
from resolute.data.decode import LIMITS, decode_image
from resolute.inference.ahead import THREADS, decode_ahead

# What systems and people leave beside images. Anything else is taken for an image: whether it is
# one its content decides, and what cannot be decoded is never passed over in silence.
_SIDE_FILE = re.compile(
    r"\..*|thumbs\.db|desktop\.ini|readme|licen[cs]e|.*\.(?:txt|md|json|csv|html|pdf|mat|xml)",
    re.IGNORECASE | re.DOTALL,
)
_SIDE_FOLDER = re.compile(r"\..*|__macosx|@eadir", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """The images of a folder and its sub-folders.

    Attributes:
        folder: where the keys begin.
        keys: paths below the folder with forward slashes, sorted.
        num_ignored: side files passed over: hidden files, read-me files, lists.
    """

    folder: Path
    keys: tuple[str, ...]
    num_ignored: int

    def path(self, key: str) -> Path:
        """Return where an image lies.

        Args:
            key: one of ``keys``.
        """
        return self.folder / key


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """One image of a stream.

    Attributes:
        key: its path below the folder.
        pixels: RGB, shape (H, W, 3), uint8; None if it could not be decoded.
        error: why not; empty otherwise.
    """

    key: str
    pixels: NDArray[np.uint8] | None
    error: str = ""


def list_images(folder: str | Path) -> Listing:
    """List what a folder and its sub-folders hold, sorted by key.

    Args:
        folder: an existing folder; links to folders are followed, not in circles.

    Returns:
        Every file that is no side file: whether it is an image shows when it is decoded.

    Raises:
        DatasetError: if the folder cannot be read, holds no image, or a name is not UTF-8.
    """
    base = Path(folder).expanduser()
    if not base.is_dir():
        raise DatasetError(f"{base}: no such folder; give a folder of images")
    keys: list[str] = []
    num_ignored = 0
    for place, names in _walk(base, frozenset()):
        for name in names:
            if _SIDE_FILE.fullmatch(name):
                num_ignored += 1
            else:
                keys.append((place / name).relative_to(base).as_posix())
    for key in keys:
        if key.encode("utf-8", "replace").decode() != key:
            raise DatasetError(f"{base}: the name {key!a} is not UTF-8; rename the file")
    if not keys:
        raise DatasetError(f"{base}: no images there")
    return Listing(folder=base, keys=tuple(sorted(keys)), num_ignored=num_ignored)


def stamp_of(listing: Listing, keys: Sequence[str]) -> str:
    """Digest names and contents of images: another picture under an old name changes it.

    Times of change are left out, as they differ between copies of one folder, and sizes say too
    little: bitmaps all have one. Reading costs little beside the network.

    Args:
        listing: of the folder.
        keys: some of its keys.

    Returns:
        sha256.
    """
    text = hashlib.sha256()
    for key in keys:
        text.update(f"{key}\t{_content(listing.path(key))}\n".encode())
    return text.hexdigest()


def stream(
    folder: str | Path, keys: Sequence[str], *, on_error: str = "raise", threads: int = THREADS
) -> Iterator[Picture]:
    """Decode images of a folder in threads, ahead of whoever takes them.

    Args:
        folder: where the keys begin.
        keys: paths below it, in the order wanted.
        on_error: ``raise`` at the first image that cannot be decoded, or ``skip``: it comes with
            its error in place of pixels.
        threads: images decoded at once.

    Yields:
        One picture per key, in order.

    Raises:
        DatasetError: at the first broken image, unless they are to be skipped.
    """
    base = Path(folder).expanduser()
    tasks = (partial(decode_image, base / key) for key in keys)
    for key, result in zip(keys, decode_ahead(tasks, threads=threads), strict=True):
        if not isinstance(result, DatasetError):
            yield Picture(key=key, pixels=result)
        elif on_error == "skip":
            yield Picture(key=key, pixels=None, error=str(result))
        else:
            raise result


def _content(path: Path) -> str:
    # What cannot be an image, such as a film or a device, is not read: its size has to do.
    try:
        size = path.stat().st_size
        if size > LIMITS.max_bytes or not path.is_file():
            return f"{size}"
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        return f"unread {error.errno}"


def _walk(place: Path, above: frozenset[str]) -> Iterator[tuple[Path, list[str]]]:
    real = os.path.realpath(place)
    if real in above:
        return
    names: list[str] = []
    folders: list[str] = []
    try:
        with os.scandir(place) as entries:
            for entry in entries:
                (folders if entry.is_dir() else names).append(entry.name)
    except OSError as error:
        raise DatasetError(f"{place}: cannot be read: {error.strerror}; check its rights") from None
    yield place, names
    for name in folders:
        if not _SIDE_FOLDER.fullmatch(name):
            yield from _walk(place / name, above | {real})
