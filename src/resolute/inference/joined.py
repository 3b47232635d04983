"""One file with the embeddings of a folder: ``.npz`` or ``.parquet``, joined from blocks.

Letters: N images, S streams, D embedding.
"""

import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from resolute.core.errors import CheckpointError, ConfigError
from resolute.core.types import Embedding
from resolute.inference.block import (
    ARRAYS,
    DAMAGED,
    GO_ON,
    damage,
    member,
    members,
    read_arrays,
    read_block,
    write_atomically,
)

FORMATS = (".npz", ".parquet")
_HEAD = ("fingerprint", "metric", "fusion", "constant")
# Without a date, so that equal contents are equal files.
_NO_DATE = (1980, 1, 1, 0, 0, 0)


def check_format(out: Path) -> None:
    """Check that an archive of this suffix can be written.

    Args:
        out: the file.

    Raises:
        ConfigError: if the suffix is unknown, its package is not installed, or a folder lies there.
    """
    if out.suffix not in FORMATS:
        raise ConfigError(f"{out}: expected a name that ends in .npz or .parquet")
    if out.is_dir():
        raise ConfigError(f"{out}: is a folder; give the name of a file")
    if out.suffix == ".parquet":
        _pyarrow()


def join(out: Path, blocks: Sequence[Path], head: Mapping[str, Any]) -> None:
    """Join blocks into one file, one block in memory at a time.

    Args:
        out: ``.npz`` or ``.parquet`` file.
        blocks: in order, at least one.
        head: fingerprint, metric, fusion and constant.

    Raises:
        DatasetError: if the file cannot be written.
        CheckpointError: if a block is damaged.
    """
    if out.suffix == ".npz":
        write_atomically(out, lambda file: _write_npz(file, blocks, head), remedy=GO_ON)
    else:
        write_atomically(out, lambda file: _write_parquet(file, blocks, head), remedy=GO_ON)


def read_archive(path: str | Path) -> tuple[tuple[str, ...], Embedding]:
    """Read an archive that :func:`resolute.inference.archive.embed_folder` wrote.

    Args:
        path: ``.npz`` or ``.parquet`` file.

    Returns:
        Keys, and the embeddings with the fingerprint of their model.

    Raises:
        CheckpointError: if it is damaged or no such file.
        ConfigError: if the suffix is unknown.
    """
    path = Path(path).expanduser()
    check_format(path)
    if path.suffix == ".parquet":
        return _read_parquet(path)
    keys = tuple(member(path, "keys").tolist())
    head = {name: member(path, name).item() for name in _HEAD}
    return keys, read_arrays(path, **head)


def _write_npz(file: BinaryIO, blocks: Sequence[Path], head: Mapping[str, Any]) -> None:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name in ("keys", *(n for n in ARRAYS if n in members(blocks[0]))):
            with archive.open(_entry(name), "w", force_zip64=True) as stream:
                _write_npy(stream, blocks, name)
        for name, value in head.items():
            with archive.open(_entry(name), "w") as stream:
                np.lib.format.write_array(stream, np.array(value), allow_pickle=False)


def _write_npy(stream: Any, blocks: Sequence[Path], name: str) -> None:
    headers = [_shape(path, name) for path in blocks]
    count = sum(shape[0] for shape, _ in headers)
    rest = headers[0][0][1:]
    kind = max((dtype for _, dtype in headers), key=lambda dtype: dtype.itemsize)
    head = {"descr": kind.str, "fortran_order": False, "shape": (count, *rest)}
    np.lib.format.write_array_header_1_0(stream, head)
    for path in blocks:
        stream.write(np.ascontiguousarray(member(path, name), dtype=kind).tobytes())


def _write_parquet(file: BinaryIO, blocks: Sequence[Path], head: Mapping[str, Any]) -> None:
    pa, parquet = _pyarrow()
    writer = None
    for path in blocks:
        keys, embedding = read_block(path)
        table = _table(pa, keys, embedding, head)
        writer = writer or parquet.ParquetWriter(file, table.schema)
        writer.write_table(table)  # a block is a row group
    if writer is not None:
        writer.close()


def _table(pa: Any, keys: Sequence[str], embedding: Embedding, head: Mapping[str, Any]) -> Any:
    num_streams, dim = embedding.vectors.shape[1:]

    def lists(array: NDArray[Any]) -> Any:
        flat = pa.array(np.ascontiguousarray(array, dtype=np.float32).reshape(-1))
        return pa.FixedSizeListArray.from_arrays(flat, int(np.prod(array.shape[1:])))

    columns = {"key": pa.array(list(keys), pa.string()), "vector": lists(embedding.vectors),
               "quality": lists(embedding.quality)}  # fmt: skip
    if embedding.norms is not None:
        columns["norms"] = lists(embedding.norms)
    if embedding.native_sizes is not None:
        columns["native_height"] = pa.array(embedding.native_sizes[:, 0])
        columns["native_width"] = pa.array(embedding.native_sizes[:, 1])
    if embedding.reliability is not None:
        columns["reliability"] = pa.array(embedding.reliability)
    told = {**head, "num_streams": num_streams, "dim": dim}
    return pa.table(columns).replace_schema_metadata({"resolute": json.dumps(told)})


def _read_parquet(path: Path) -> tuple[tuple[str, ...], Embedding]:
    pa, parquet = _pyarrow()
    try:
        table = parquet.read_table(path)
        head = json.loads(table.schema.metadata[b"resolute"])
    except (*DAMAGED, TypeError, pa.ArrowException) as error:
        raise CheckpointError(f"{path}: damaged or no archive of this library ({error})") from None
    table = table.combine_chunks()
    count, streams = len(table), head["num_streams"]

    def array(name: str, *shape: int) -> NDArray[np.float32] | None:
        if name not in table.column_names:
            return None
        flat = table[name].combine_chunks().flatten() if shape else table[name]
        return np.asarray(flat.to_numpy(), dtype=np.float32).reshape(count, *shape)

    sizes = None
    if "native_height" in table.column_names:
        both = [table[f"native_{side}"].to_numpy() for side in ("height", "width")]
        sizes = np.column_stack(both).astype(np.int64)
    vectors, quality = array("vector", streams, head["dim"]), array("quality", streams)
    if vectors is None or quality is None:
        raise CheckpointError(f"{path}: no archive of this library (vector or quality is missing)")
    embedding = Embedding(
        vectors=vectors,
        quality=quality,
        norms=array("norms", streams),
        native_sizes=sizes,
        reliability=array("reliability"),
        **{name: head[name] for name in _HEAD},
    )
    return tuple(table["key"].to_pylist()), embedding


def _shape(path: Path, name: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    try:
        with zipfile.ZipFile(path) as archive, archive.open(f"{name}.npy") as stream:
            np.lib.format.read_magic(stream)
            shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
            return shape, dtype
    except DAMAGED as error:
        raise CheckpointError(damage(path, error)) from None


def _entry(name: str) -> zipfile.ZipInfo:
    return zipfile.ZipInfo(f"{name}.npy", date_time=_NO_DATE)


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise ConfigError(
            'parquet files need pyarrow: pip install "resolute-reid[parquet]"; or write .npz'
        ) from None
    return pyarrow, parquet
