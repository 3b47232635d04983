"""Read and verify a multi-resolution set that was written to disk, by its manifest.

The manifest says what the file names cannot: rates, sources, digests. It is foreign text: every
part that is relied on is checked, and no path leaves the folder.
"""

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resolute.core.config import from_mapping
from resolute.core.errors import ConfigError, DatasetError
from resolute.core.types import Record, Resolution, Split
from resolute.data.catalogue import data_name
from resolute.data.decode import decode_image
from resolute.data.mlr import MlrPolicy

MANIFEST = "manifest.json"
FOLDERS = {"train": "bounding_box_train", "query": "query", "gallery": "bounding_box_test"}

FORMAT = "resolute-mlr"
VERSION = 1


@dataclass(frozen=True, slots=True)
class StoredImage:
    """A source that reads one image of a written set and checks its digest.

    Attributes:
        path: the PNG file.
        sha256: digest of its pixels, see :func:`pixel_digest`.
    """

    path: Path
    sha256: str

    def pixels(self) -> NDArray[np.uint8]:
        """Decode the file: RGB, shape (h, w, 3), 0..255.

        Raises:
            DatasetError: if the file is missing, broken or has other pixels than when written.
        """
        pixels = decode_image(self.path)
        if pixel_digest(pixels) != self.sha256:
            raise DatasetError(
                f"{self.path}: the pixels differ from the manifest's; write the set again"
            )
        return pixels

    def token(self) -> str:
        """Return the digest of the pixels."""
        return self.sha256


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """What a set was made of.

    Attributes:
        name: benchmark, as ``data.name`` takes it.
        trial: which of its splits.
        seed: that splits, rates and gallery draws come from.
    """

    name: str
    trial: int
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """What :func:`verify` found.

    Attributes:
        num_images: images compared.
        num_reencoded: images whose pixels are right while the file's bytes differ, as another
            version of Pillow or zlib writes them.
    """

    num_images: int
    num_reencoded: int


def pixel_digest(pixels: NDArray[np.uint8]) -> str:
    """Return the sha256 over an image's size and levels.

    Args:
        pixels: RGB, shape (h, w, 3), 0..255.
    """
    head = f"{pixels.shape[0]}x{pixels.shape[1]}\n".encode()
    return hashlib.sha256(head + np.ascontiguousarray(pixels).tobytes()).hexdigest()


def verify(folder: Path) -> Check:
    """Compare every file of a written set with its manifest.

    Args:
        folder: the set.

    Returns:
        What was compared.

    Raises:
        DatasetError: if a file is missing, broken, of other content, or not in the manifest, or
            the images listed there were edited.
    """
    folder = Path(folder)
    data = load_manifest(folder)
    _split_of(folder, data)
    reencoded, known = 0, {MANIFEST}
    for image in data["images"]:
        path = inside(folder, image["path"])
        known.add(image["path"])
        if hashlib.sha256(_read_bytes(folder / path)).hexdigest() != image["sha256"]:
            StoredImage(folder / path, image["sha256_pixels"]).pixels()
            reencoded += 1
    found = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if not p.is_dir()}
    if found - known:
        extra = sorted(found - known)
        raise DatasetError(
            f"{folder}: {len(extra)} files are not in the manifest, the first: {extra[0]}; "
            "remove them"
        )
    return Check(num_images=len(data["images"]), num_reencoded=reencoded)


def read_manifest(folder: Path) -> Split:
    """Read a written set, for training and evaluation.

    Keys, and so the split's digest, are those of the original data set.

    Args:
        folder: the set, or its ``manifest.json``.

    Returns:
        The split; a rate is the manifest's, the pixels are the files'.

    Raises:
        DatasetError: if there is no manifest, it is damaged, or the images listed were edited.
    """
    folder = _folder_of(folder)
    return _split_of(folder, load_manifest(folder))


def _split_of(folder: Path, data: Mapping[str, Any]) -> Split:
    records: dict[str, list[Record]] = {role: [] for role in FOLDERS}
    for image in data["images"]:
        path = folder / inside(folder, image["path"])
        records[image["role"]].append(
            Record(
                key=image["key"],
                pid=image["pid"],
                camid=image["camid"],
                resolution=Resolution(image["resolution"]),
                source=StoredImage(path, image["sha256_pixels"]),
                rate=image["rate"],
            )
        )
    split = Split(
        name=data["name"],
        notes=tuple(data["notes"]),
        **{role: tuple(found) for role, found in records.items()},
    )
    if split.digest() != data["split_digest"]:
        raise DatasetError(
            f"{folder / MANIFEST}: the images listed are not those it was made of; write the set "
            "again"
        )
    return split


def read_origin(folder: Path) -> Origin:
    """Say what a written set was made of.

    Args:
        folder: the set, or its ``manifest.json``.

    Returns:
        Benchmark, trial and seed.

    Raises:
        DatasetError: if there is no manifest, or it is damaged.
    """
    data = load_manifest(_folder_of(folder))
    # Of sets that train together the first is the one that is scored.
    trial = re.search("/trial([0-9]{1,9})(/|$)", data["name"].split(" + ")[0])
    return Origin(
        name=data_name(data["name"]), trial=int(trial[1]) if trial else 0, seed=data["seed"]
    )


def _folder_of(path: Path) -> Path:
    path = Path(path)
    return path.parent if path.name == MANIFEST else path


def load_manifest(folder: Path) -> dict[str, Any]:
    """Read the manifest of a folder.

    Args:
        folder: of a written set.

    Returns:
        What it holds; the parts and types that the rest relies on are there.

    Raises:
        DatasetError: if there is none, or it is damaged.
    """
    path = folder / MANIFEST
    return parse_manifest(read_text(path), path)


def parse_manifest(text: str, path: Path) -> dict[str, Any]:
    """Parse a manifest.

    Args:
        text: of the file.
        path: of the file, for errors.

    Returns:
        What it holds; the parts and types that the rest relies on are there.

    Raises:
        DatasetError: if it is no manifest, or of another version.
    """
    try:
        data: dict[str, Any] = json.loads(text)
        if data["format"] != FORMAT or data["version"] != VERSION:
            raise DatasetError(
                f"{path}: expected {FORMAT} version {VERSION}, got {data['format']} version "
                f"{data['version']}; use the version of resolute that wrote it"
            )
        from_mapping(MlrPolicy, data["policy"])
        _check_types(data)
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError, ConfigError,
            RecursionError) as error:  # fmt: skip
        raise DatasetError(
            f"{path}: not a manifest of a multi-resolution set ({error}); write the set again"
        ) from error
    return data


def _check_types(data: Mapping[str, Any]) -> None:
    texts = ("path", "key", "sha256", "sha256_pixels")
    valid = all(
        all(isinstance(image[name], str) for name in texts)
        and all(isinstance(image[name], int) for name in ("pid", "camid"))
        and isinstance(image["rate"], int | float)
        and image["rate"] >= 1
        and math.isfinite(image["rate"])  # an OverflowError, where an int is no float
        and _is_spelled(image["path"])
        and _is_spelled(image["key"])
        and image["role"] in FOLDERS
        and image["resolution"] in {r.value for r in Resolution}
        for image in data["images"]
    )
    named = [isinstance(data[key], str) for key in ("name", "split_digest", "pillow")]
    seeded = isinstance(data["seed"], int) and data["seed"] >= 0
    if not (valid and all(named) and isinstance(data["notes"], list) and seeded):
        raise TypeError("an image entry or a field has the wrong type")


def _is_spelled(text: str) -> bool:
    text.encode("utf-8")  # a lone surrogate is a ValueError
    return "\0" not in text


def inside(folder: Path, path: str) -> str:
    """Check that a path of a manifest stays in the folder, by its spelling and through links.

    Args:
        folder: of the set.
        path: relative, with forward slashes.

    Returns:
        The path.

    Raises:
        DatasetError: if it leads elsewhere.
    """
    parts = PurePosixPath(path)
    spelled = parts.is_absolute() or ".." in parts.parts or "\\" in path or ":" in path
    if spelled or not path or not _resolved(folder, path):
        raise DatasetError(f"{folder / MANIFEST}: {path!r} points outside of the folder")
    return path


def _resolved(folder: Path, path: str) -> bool:
    return (folder / path).resolve().is_relative_to(folder.resolve())


def read_text(path: Path) -> str:
    """Read a manifest's text.

    Args:
        path: of the file.

    Returns:
        Its text.

    Raises:
        DatasetError: if it cannot be read, or is no text.
    """
    try:
        return _read_bytes(path).decode("utf-8")
    except UnicodeDecodeError as error:
        raise DatasetError(f"{path}: not a text file; write the set again") from error


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DatasetError(
            f"{path}: cannot be read: {error.strerror}; write the set again"
        ) from error
