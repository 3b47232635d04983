"""The blocks that an archive is made of: files written whole or not at all.

Letters: N images, S streams, D embedding.
"""

import json
import os
import secrets
import shutil
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from resolute.core.errors import CheckpointError, DatasetError
from resolute.core.types import Embedding
from resolute.retrieval.files import sync_folder

ARRAYS = ("vectors", "quality", "norms", "native_sizes", "reliability")
DAMAGED = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile)
AGAIN = "mend that and run the same command again"
GO_ON = f"{AGAIN}, it goes on from here"


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """The images of one block.

    Attributes:
        keys: of the N images embedded.
        embedding: of these.
        skipped: why an image was not embedded, by key.
        made_by: what decides the last bits: version and threads.
    """

    keys: tuple[str, ...]
    embedding: Embedding
    skipped: dict[str, str]
    made_by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """What a block says without its vectors.

    Attributes:
        stamp: changes with the list of its images.
        num_images: N.
        skipped: why an image was not embedded, by key.
        made_by: version and threads.
    """

    stamp: str
    num_images: int
    skipped: dict[str, str]
    made_by: str


def write_block(path: Path, block: Block, stamp: str) -> None:
    """Write a block, whole or not at all.

    Args:
        path: the file.
        block: what to write.
        stamp: of the list of its images.

    Raises:
        DatasetError: if it cannot be written.
    """
    head = {
        "stamp": stamp,
        "num_images": len(block.keys),
        "skipped": block.skipped,
        "made_by": block.made_by,
    }
    arrays: dict[str, Any] = {
        name: value for name in ARRAYS if (value := getattr(block.embedding, name)) is not None
    }
    arrays["keys"] = np.array(block.keys, dtype=np.str_)
    arrays["head"] = np.array(json.dumps(head))
    write_atomically(path, lambda file: np.savez(file, **arrays), remedy=GO_ON)


def peek_block(path: Path) -> Head:
    """Read what a block says without its vectors.

    Args:
        path: the file.

    Raises:
        CheckpointError: if it is damaged.
    """
    return Head(**json.loads(str(member(path, "head"))))


def read_block(path: Path) -> tuple[tuple[str, ...], Embedding]:
    """Read the keys and embeddings of a block.

    Args:
        path: the file.

    Raises:
        CheckpointError: if it is damaged.
    """
    return tuple(member(path, "keys").tolist()), read_arrays(path)


def write_atomically(path: Path, write: Callable[[BinaryIO], Any], *, remedy: str = AGAIN) -> None:
    """Write a file beside its place first, then rename it: it is there whole or not at all.

    Args:
        path: the file; its folder is made if need be.
        write: writes the content.
        remedy: what its user is told to do where that fails.

    Raises:
        DatasetError: if it cannot be written; what was there stays.
    """
    with _beside(path, remedy) as partial, partial.open("xb") as file:
        write(file)
        _sync(file)


def write_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write a folder of files beside its place first, then rename it: whole or not at all.

    Args:
        folder: not there yet, or empty.
        files: contents by name.

    Raises:
        DatasetError: if it cannot be written.
    """
    with _beside(folder, AGAIN) as partial:
        partial.mkdir()
        for name, content in files.items():
            with (partial / name).open("xb") as file:
                file.write(content)
                _sync(file)
        sync_folder(partial)


@contextmanager
def _beside(path: Path, remedy: str) -> Iterator[Path]:
    # A free name, whose file or folder takes its place at the end and is gone after a failure.
    # Whoever writes makes it in the ordinary way, so that the user's umask says who may read it.
    partial = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        partial.replace(path)
        sync_folder(path.parent)
    except DatasetError:
        raise
    except OSError as error:
        raise DatasetError(
            f"{path}: could not be written: {error.strerror or error}; {remedy}"
        ) from error
    finally:
        with suppress(OSError):
            if partial.is_dir():
                shutil.rmtree(partial)
            else:
                partial.unlink()


def _sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def read_arrays(path: Path, **settings: Any) -> Embedding:
    """Read the embeddings of an ``.npz`` file.

    Args:
        path: a block or an archive.
        **settings: fingerprint, metric, fusion and constant, where the file's users need them.

    Raises:
        CheckpointError: if it is damaged.
    """
    arrays: dict[str, Any] = {name: member(path, name) for name in members(path) if name in ARRAYS}
    return Embedding(**arrays, **settings)


def members(path: Path) -> list[str]:
    """List the arrays of an ``.npz`` file.

    Args:
        path: the file.

    Raises:
        CheckpointError: if it is damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return [name.removesuffix(".npy") for name in archive.namelist()]
    except DAMAGED as error:
        raise CheckpointError(damage(path, error)) from None


def member(path: Path, name: str) -> NDArray[Any]:
    """Read one array of an ``.npz`` file; nothing in it is executed.

    Args:
        path: the file.
        name: of the array.

    Raises:
        CheckpointError: if it is damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive, archive.open(f"{name}.npy") as stream:
            array: NDArray[Any] = np.lib.format.read_array(stream, allow_pickle=False)
            return array
    except DAMAGED as error:
        raise CheckpointError(damage(path, error)) from None


def damage(path: Path, error: Exception) -> str:
    """Word the error of a damaged file.

    Args:
        path: the file.
        error: what its reader said.
    """
    return f"{path}: damaged ({error}); remove it and run the same command again"
