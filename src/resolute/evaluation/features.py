"""Read embeddings that any program has written: `.npz`, or layumi's `pytorch_result.mat`.

Letters: N images, S streams, D embedding.
"""

import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resolute.core.config import unknown_name
from resolute.core.distance import FUSIONS, METRICS
from resolute.core.errors import ConfigError, DatasetError
from resolute.core.matfile import read_mat
from resolute.core.types import Embedding, Labels

VECTOR_KEYS = ("vectors", "features", "feats")
LABEL_KEYS = ("pids", "camids", "rates", "heights")
SETTING_KEYS = ("quality", "metric", "fusion", "constant", "fingerprint")

# What `resolute embed` and `resolute gallery export` write besides, and no score needs.
OTHER_KEYS = (
    "keys", "ids", "cameras", "times", "added", "norms", "reliability", "native_sizes",
    "num_streams", "dim",
)  # fmt: skip

Features = tuple[Embedding, Labels]

# What readers raise of a damaged file; RuntimeError where a flipped bit asks for a password or for
# another compression; MemoryError where a header asks for more than there is.
_DAMAGED = (ValueError, EOFError, OSError, RuntimeError, MemoryError, zipfile.BadZipFile,
            zlib.error)  # fmt: skip


def load_features(path: Path, *, normalise: bool = True) -> Features:
    """Read the embeddings and labels of N images from a `.npz` file.

    Keys: ``vectors`` (or ``features``, ``feats``), shape (N, D) for one stream or (N, S, D);
    ``pids`` and ``camids``, shape (N,); and if present ``rates``, ``heights``, shape (N,),
    ``quality``, shape (N, S), ``metric``, ``fusion``, ``constant`` and ``fingerprint``, any text
    that names the model: two sides of two models are refused. The keys that files of
    ``resolute embed`` and ``resolute gallery export`` have besides are passed over.

    Args:
        path: the file. Nothing in it is executed: pickled arrays are refused.
        normalise: scale every vector to length 1, so that the squared Euclidean distance ranks
            as the cosine does. False compares the vectors as they are.

    Returns:
        Embedding and labels. Without their keys rates are 1, heights 0 (unknown) and quality 1.

    Raises:
        DatasetError: if the file is missing, damaged or not `.npz`; if keys are missing or
            unknown; if shapes do not fit or values are not finite, or too large for float32 and
            not normalised.
    """
    arrays = _read_npz(path, (*VECTOR_KEYS, *LABEL_KEYS, *SETTING_KEYS), ignored=OTHER_KEYS)
    names = [key for key in VECTOR_KEYS if key in arrays]
    if len(names) != 1:
        found = ", ".join(arrays) or "nothing"
        raise DatasetError(f"{path}: expected one of {', '.join(VECTOR_KEYS)}, got {found}")
    for key in ("pids", "camids"):
        if key not in arrays:
            raise DatasetError(
                f"{path}: {key} missing, got {', '.join(arrays)}; where cameras are unknown, save "
                "zeros as camids and evaluate with --protocol.camera_rule none"
            )
    vectors = _vectors(path, names[0], arrays[names[0]], normalise=normalise)
    num, streams = len(vectors), vectors.shape[:2]
    labels = Labels(
        pids=_numbers(path, "pids", arrays["pids"], (num,), np.int64),
        camids=_numbers(path, "camids", arrays["camids"], (num,), np.int64),
        rates=_numbers(path, "rates", arrays.get("rates", np.ones(num)), (num,), np.float64),
        heights=_numbers(path, "heights", arrays.get("heights", np.zeros(num)), (num,), np.int64),
    )
    quality = arrays.get("quality", np.ones(streams))
    quality = _numbers(path, "quality", quality, streams, np.float32)
    return _embedding(path, vectors, quality, arrays), labels


def load_layumi(path: Path, *, normalise: bool = True) -> tuple[Features, Features]:
    """Read query and gallery from the `pytorch_result.mat` of layumi's baseline.

    Keys: ``query_f``, ``query_label``, ``query_cam``, ``gallery_f``, ``gallery_label``,
    ``gallery_cam``; others are not looked at.

    Args:
        path: the file, MATLAB 5 as scipy writes it.
        normalise: as for :func:`load_features`.

    Returns:
        Embedding and labels of the queries, then of the gallery.

    Raises:
        DatasetError: if the file is missing, damaged or lacks a key; if shapes do not fit; if
            scipy is not installed. See :func:`resolute.core.matfile.read_mat` on files of
            strangers.
    """
    arrays = read_mat(path, remedy="write it again with scipy.io.savemat")
    sides = []
    for side in ("query", "gallery"):
        keys = [f"{side}_{part}" for part in ("f", "label", "cam")]
        missing = [key for key in keys if key not in arrays]
        if missing:
            found = ", ".join(key for key in arrays if not key.startswith("__"))
            raise DatasetError(f"{path}: {', '.join(missing)} missing, got {found or 'nothing'}")
        vectors = _vectors(path, keys[0], np.asarray(arrays[keys[0]]), normalise=normalise)
        num = len(vectors)
        labels = Labels(
            pids=_numbers(path, keys[1], np.ravel(arrays[keys[1]]), (num,), np.int64),
            camids=_numbers(path, keys[2], np.ravel(arrays[keys[2]]), (num,), np.int64),
            rates=np.ones(num),
            heights=np.zeros(num, dtype=np.int64),
        )
        quality = np.ones(vectors.shape[:2], dtype=np.float32)
        sides.append((Embedding(vectors=vectors, quality=quality), labels))
    return sides[0], sides[1]


def load_query_gallery(*paths: Path, normalise: bool = True) -> tuple[Features, Features]:
    """Read query and gallery from two `.npz` files or one `.mat` file.

    Args:
        *paths: query and gallery file, or the one file that holds both.
        normalise: as for :func:`load_features`.

    Returns:
        Embedding and labels of the queries, then of the gallery.

    Raises:
        ConfigError: if it is neither two files nor one `.mat` file.
        DatasetError: as for :func:`load_features` and :func:`load_layumi`, or if the vectors of
            the two files differ in shape.
    """
    if len(paths) == 1 and paths[0].suffix.lower() == ".mat":
        query, gallery = load_layumi(paths[0], normalise=normalise)
    elif len(paths) == 2:
        query = load_features(paths[0], normalise=normalise)
        gallery = load_features(paths[1], normalise=normalise)
    else:
        raise ConfigError(
            "features: expected two .npz files (query, gallery) or one .mat file, got "
            f"{', '.join(p.name for p in paths) or 'none'}"
        )
    ours, theirs = query[0].vectors.shape[1:], gallery[0].vectors.shape[1:]
    if ours != theirs:
        raise DatasetError(
            f"{paths[0]}: query vectors have (S, D) = {ours}, gallery vectors {theirs}: they must "
            "come from one model"
        )
    return query, gallery


def _read_npz(
    path: Path, known: Sequence[str], *, ignored: Sequence[str]
) -> dict[str, NDArray[Any]]:
    if not path.is_file():
        raise DatasetError(f"{path}: no such file")
    try:
        with path.open("rb") as file:
            archive = np.load(file, allow_pickle=False)
            if isinstance(archive, np.ndarray):
                raise DatasetError(f"{path}: expected .npz with named arrays, got one .npy array")
            for key in archive.files:  # before any is unpacked
                if key not in (*known, *ignored):
                    raise DatasetError(f"{path}: {unknown_name('key', key, list(known))}")
            return {key: archive[key] for key in archive.files if key in known}
    except DatasetError:
        raise
    except _DAMAGED as error:
        raise DatasetError(
            f"{path}: not readable as .npz of plain numbers ({error}); write it with "
            "numpy.savez(path, vectors=..., pids=..., camids=...)"
        ) from None


def _vectors(
    path: Path, name: str, values: NDArray[Any], *, normalise: bool
) -> NDArray[np.float32]:
    if values.ndim == 2:
        values = values[:, None]  # (N, 1, D)
    if values.ndim != 3:
        raise DatasetError(f"{path}: {name}: expected (N, D) or (N, S, D), got {values.shape}")
    if not normalise:
        return _numbers(path, name, values, values.shape, np.float32)
    wide = np.float64 if values.dtype.itemsize > 4 else np.float32
    values = _numbers(path, name, values, values.shape, wide)
    peaks = np.abs(values).max(axis=2, keepdims=True, initial=0)  # (N, S, 1)
    if not peaks.all():
        bad = np.flatnonzero((peaks == 0).any(axis=(1, 2)))
        raise DatasetError(
            f"{path}: {name}: {len(bad)} vectors are all zeros, first at image {bad[0]}; they "
            "have no direction to compare"
        )
    # By a power of two, so nothing is rounded: squares of huge and of tiny values fit.
    vectors: NDArray[np.float32] = np.ldexp(values, -np.frexp(peaks)[1]).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=2, keepdims=True)
    return vectors


def _numbers(
    path: Path, name: str, values: NDArray[Any], shape: tuple[int, ...], dtype: type[np.number]
) -> NDArray[Any]:
    if values.shape != shape or values.dtype.kind not in "iuf":
        raise DatasetError(
            f"{path}: {name}: expected numbers of shape {shape}, got {values.dtype} {values.shape}"
        )
    if not np.isfinite(values).all():
        raise DatasetError(f"{path}: {name}: some values are not finite")
    with np.errstate(over="ignore"):
        cast = values.astype(dtype)
    if np.issubdtype(dtype, np.integer) and (cast != values).any():
        raise DatasetError(f"{path}: {name}: expected whole numbers")
    if not np.isfinite(cast).all():
        raise DatasetError(f"{path}: {name}: some values are too large for {np.dtype(dtype)}")
    return cast


def _embedding(
    path: Path,
    vectors: NDArray[np.float32],
    quality: NDArray[np.float32],
    arrays: Mapping[str, NDArray[Any]],
) -> Embedding:
    settings: dict[str, Any] = {}
    for key, known in (("metric", METRICS), ("fusion", FUSIONS)):
        if key in arrays:
            settings[key] = str(arrays[key])
            if settings[key] not in known:
                raise DatasetError(f"{path}: {unknown_name(key, settings[key], list(known))}")
    if "fingerprint" in arrays:
        settings["fingerprint"] = _fingerprint(path, arrays["fingerprint"])
    if "constant" in arrays:
        settings["constant"] = float(_numbers(path, "constant", arrays["constant"], (), np.float64))
    return Embedding(vectors=vectors, quality=quality, **settings)


def _fingerprint(path: Path, array: NDArray[Any]) -> str:
    names = set(np.ravel(array).tolist())
    (name,) = names if len(names) == 1 else (None,)
    if not isinstance(name, str):
        raise DatasetError(f"{path}: fingerprint: expected one text, got {sorted(map(str, names))}")
    return name
