"""Write a multi-resolution set to disk, or write it again from its manifest, byte for byte.

The folders and names are Market-1501's, so that other toolboxes read them. What a name cannot
say (rate, source, digest) stands in the manifest; a rate is never guessed from a name.
"""

import errno
import hashlib
import io
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import Image

from resolute.core.config import from_mapping, to_mapping
from resolute.core.errors import ConfigError, DatasetError
from resolute.core.types import Record, Split
from resolute.data.degrade import Degraded, degrade
from resolute.data.manifest import (
    FOLDERS,
    FORMAT,
    MANIFEST,
    VERSION,
    inside,
    load_manifest,
    parse_manifest,
    pixel_digest,
    read_text,
    verify,
)
from resolute.data.mlr import ROUNDING, STORAGE, MlrPolicy


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
        "format": FORMAT,
        "version": VERSION,
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
    text = read_text(Path(manifest))
    data = parse_manifest(text, Path(manifest))
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
            saved = _save(new, inside(new, image["path"]), pixels)
            if saved["sha256_pixels"] != image["sha256_pixels"]:
                raise DatasetError(
                    f"{manifest}: {image['key']} gives other pixels than the manifest's; the "
                    f"original or Pillow differs (made with {data['pillow']}, here "
                    f"{PIL.__version__})"
                )
        (new / MANIFEST).write_text(text, encoding="utf-8", newline="")
    return folder / MANIFEST


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
        "sha256": hashlib.sha256(stream.getvalue()).hexdigest(),
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
    data = load_manifest(folder)
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
