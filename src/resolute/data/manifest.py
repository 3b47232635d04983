"""Write a multi-resolution set to disk, with a manifest that reproduces it byte for byte.

The folders and names are Market-1501's, so that other toolboxes read them. What a name cannot
say (rate, source, digest) stands in ``manifest.json``; a rate is never guessed from a name.
"""

import errno
import hashlib
import io
import json
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import Image

from resolute.core.config import from_mapping, to_mapping
from resolute.core.errors import ConfigError, DatasetError
from resolute.core.types import Record, Resolution, Split
from resolute.data.catalogue import data_name
from resolute.data.decode import decode_image
from resolute.data.degrade import Degraded, degrade
from resolute.data.mlr import ROUNDING, STORAGE, MlrPolicy

MANIFEST = "manifest.json"
FOLDERS = {"train": "bounding_box_train", "query": "query", "gallery": "bounding_box_test"}

_FORMAT = "resolute-mlr"
_VERSION = 1


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


def write(split: Split, folder: Path, *, policy: MlrPolicy, seed: int) -> Path:
    """Write a multi-resolution split as PNG files with a manifest.

    The folder appears complete or not at all. Writing the same split again changes nothing.

    Args:
        split: what :func:`resolute.data.mlr.build` made.
        folder: where to; must not exist, be empty, or hold this very set.
        policy: the policy it was made by.
        seed: the seed it was drawn from.

    Returns:
        Path of the manifest.

    Raises:
        DatasetError: if the folder holds anything else, an image cannot be read, or the disk is
            full.
        ConfigError: if the split was made with another kernel than the policy's.
    """
    for _, _, record in _walk(split):
        if isinstance(record.source, Degraded) and record.source.kernel != policy.kernel:
            raise ConfigError(
                f"policy: expected the one that {split.name} was made by, got kernel "
                f"{policy.kernel} where {record.key} has {record.source.kernel}"
            )
    head = {
        "format": _FORMAT,
        "version": _VERSION,
        "name": split.name,
        "split_digest": split.digest(),
        "seed": seed,
        "policy": to_mapping(policy),
        "rounding": ROUNDING,
        "storage": STORAGE,
        "pillow": PIL.__version__,
        "notes": list(split.notes),
    }
    folder = Path(folder)
    if _holds_already(folder, head):
        return folder / MANIFEST
    total = sum(len(getattr(split, role)) for role in FOLDERS)
    images = []
    with _new_folder(folder, total) as new:
        for role, position, record in _walk(split):
            path = _image_path(role, position, record)
            images.append(
                {
                    "path": path,
                    "key": record.key,
                    "role": role,
                    "pid": record.pid,
                    "camid": record.camid,
                    "resolution": record.resolution.value,
                    "rate": record.rate,
                    **_save(new, path, record.source.pixels()),
                }
            )
        _save_json(new / MANIFEST, {**head, "images": images})
    return folder / MANIFEST


def rebuild(manifest: Path, originals: Split, folder: Path) -> Path:
    """Write a set again from its manifest and the original images, without any draw.

    With the version of Pillow that the manifest names, every byte is the same.

    Args:
        manifest: a ``manifest.json``; the images beside it are not needed.
        originals: the untouched data set as its reader gives it; roles do not matter.
        folder: where to; must not exist or be empty.

    Returns:
        Path of the new manifest, a copy of the given one.

    Raises:
        DatasetError: if an original is missing or gives other pixels than the manifest's, or the
            folder is not empty.
    """
    text = _read_text(Path(manifest))
    data = _parse(text, Path(manifest))
    sources = {r.key: r.source for role in FOLDERS for r in getattr(originals, role)}
    missing = sorted({image["key"] for image in data["images"]} - sources.keys())
    if missing:
        raise DatasetError(
            f"{manifest}: {len(missing)} of its originals are not in {originals.name}, "
            f"the first: {missing[0]}; read the data set the set was made from"
        )
    kernel = from_mapping(MlrPolicy, data["policy"]).kernel
    folder = Path(folder)
    _check_empty(folder)
    with _new_folder(folder, len(data["images"])) as new:
        for image in data["images"]:
            pixels = degrade(sources[image["key"]].pixels(), image["rate"], kernel)
            saved = _save(new, _inside(new, image["path"]), pixels)
            if saved["sha256_pixels"] != image["sha256_pixels"]:
                raise DatasetError(
                    f"{manifest}: {image['key']} gives other pixels than the manifest's; the "
                    f"original or Pillow differs (made with {data['pillow']}, here "
                    f"{PIL.__version__})"
                )
        (new / MANIFEST).write_text(text, encoding="utf-8", newline="")
    return folder / MANIFEST


def verify(folder: Path) -> Check:
    """Compare every file of a written set with its manifest.

    Args:
        folder: the set.

    Returns:
        What was compared.

    Raises:
        DatasetError: if a file is missing, broken, of other content, or not in the manifest, or
            the manifest was edited.
    """
    folder = Path(folder)
    data = _load(folder)
    _split_of(folder, data)
    reencoded, known = 0, {MANIFEST}
    for image in data["images"]:
        path = _inside(folder, image["path"])
        known.add(image["path"])
        if _digest(_read_bytes(folder / path)) != image["sha256"]:
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
        DatasetError: if there is no manifest, it is damaged, or it was edited.
    """
    folder = _folder_of(folder)
    return _split_of(folder, _load(folder))


def _split_of(folder: Path, data: Mapping[str, Any]) -> Split:
    records: dict[str, list[Record]] = {role: [] for role in FOLDERS}
    for image in data["images"]:
        path = folder / _inside(folder, image["path"])
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
    data = _load(_folder_of(folder))
    # Of sets that train together the first is the one that is scored.
    trial = re.search("/trial([0-9]+)(/|$)", data["name"].split(" + ")[0])
    return Origin(
        name=data_name(data["name"]), trial=int(trial[1]) if trial else 0, seed=data["seed"]
    )


def _folder_of(path: Path) -> Path:
    path = Path(path)
    return path.parent if path.name == MANIFEST else path


def _walk(split: Split) -> Iterator[tuple[str, int, Record]]:
    for role in FOLDERS:
        for position, record in enumerate(getattr(split, role)):
            yield role, position, record


def _image_path(role: str, position: int, record: Record) -> str:
    """Name an image as Market-1501 does: identity, camera from 1, sequence, frame, box."""
    pid = f"{record.pid:04d}" if record.pid >= 0 else str(record.pid)
    return f"{FOLDERS[role]}/{pid}_c{record.camid + 1}s1_{position:06d}_00.png"


def _save(folder: Path, path: str, pixels: NDArray[np.uint8]) -> dict[str, Any]:
    """Write one PNG and describe it."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format="PNG")
    target = folder / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(stream.getvalue())
    return {
        "height": pixels.shape[0],
        "width": pixels.shape[1],
        "sha256": _digest(stream.getvalue()),
        "sha256_pixels": pixel_digest(pixels),
    }


def _save_json(path: Path, data: Mapping[str, Any]) -> None:
    text = json.dumps(data, indent=1, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8", newline="")


@contextmanager
def _new_folder(folder: Path, num_images: int) -> Iterator[Path]:
    # Filled out of sight and moved into place by one rename.
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        new = Path(tempfile.mkdtemp(prefix=f".{folder.name}.partial-", dir=folder.parent))
        try:
            yield new
            new.chmod(0o755)
            new.replace(folder)
        finally:
            shutil.rmtree(new, ignore_errors=True)
    except DatasetError:
        raise
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DatasetError(
                f"{folder}: the disk is full before all {num_images} images were written, nothing "
                "was kept; free space or choose another folder"
            ) from error
        raise DatasetError(f"{folder}: cannot be written: {error.strerror}") from error


def _holds_already(folder: Path, head: Mapping[str, Any]) -> bool:
    # True if the folder holds exactly this set; anything else but nothing is refused.
    if not (folder / MANIFEST).is_file():
        _check_empty(folder)
        return False
    data = _load(folder)
    wanted = json.loads(json.dumps(head))
    differs = [key for key in wanted if data[key] != wanted[key] and key != "pillow"]
    if differs:
        raise DatasetError(
            f"{folder}: holds another set ({data['name']}, seed {data['seed']}; {differs[0]} "
            "differs); choose another folder"
        )
    verify(folder)
    return True


def _check_empty(folder: Path) -> None:
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise DatasetError(f"{folder}: expected a new or empty folder; choose another one")


def _load(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    return _parse(_read_text(path), path)


def _parse(text: str, path: Path) -> dict[str, Any]:
    # Checks the parts and types that the rest relies on.
    try:
        data: dict[str, Any] = json.loads(text)
        if data["format"] != _FORMAT or data["version"] != _VERSION:
            raise DatasetError(
                f"{path}: expected {_FORMAT} version {_VERSION}, got {data['format']} version "
                f"{data['version']}; use the version of resolute that wrote it"
            )
        from_mapping(MlrPolicy, data["policy"])
        texts = ("path", "key", "sha256", "sha256_pixels")
        valid = all(
            all(isinstance(image[name], str) for name in texts)
            and all(isinstance(image[name], int) for name in ("pid", "camid"))
            and isinstance(image["rate"], int | float)
            and image["rate"] >= 1
            and image["role"] in FOLDERS
            and image["resolution"] in {r.value for r in Resolution}
            for image in data["images"]
        )
        named = [isinstance(data[key], str) for key in ("name", "split_digest", "pillow")]
        seeded = isinstance(data["seed"], int)
        if not (valid and all(named) and isinstance(data["notes"], list) and seeded):
            raise TypeError("an image entry or a field has the wrong type")
    except (KeyError, TypeError, ValueError, ConfigError, RecursionError) as error:
        raise DatasetError(
            f"{path}: not a manifest of a multi-resolution set ({error}); write the set again"
        ) from error
    return data


def _inside(folder: Path, path: str) -> str:
    # The path itself, if it stays in the folder both by its spelling and through links.
    parts = PurePosixPath(path)
    spelled = parts.is_absolute() or ".." in parts.parts or "\\" in path or ":" in path
    if spelled or not path or not _resolved(folder, path):
        raise DatasetError(f"{folder / MANIFEST}: {path!r} points outside of the folder")
    return path


def _resolved(folder: Path, path: str) -> bool:
    return (folder / path).resolve().is_relative_to(folder.resolve())


def _read_text(path: Path) -> str:
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


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
