"""MSMT17: 4,101 people, fifteen cameras, in version 1 or 2 (faces blurred) [Wei 2018]."""

import re
from dataclasses import dataclass
from pathlib import Path

from resolute.core.errors import DatasetError
from resolute.core.rng import Streams
from resolute.core.types import Record, Resolution, Split
from resolute.data.counts import RoleCount, SplitCounts, with_differences
from resolute.data.decode import FileSource
from resolute.data.files import IMAGE_SUFFIX, defect, find_base, is_folder, listed, read_text
from resolute.data.views import check_trial

COUNTS = SplitCounts(
    train=RoleCount(1_041, 30_248), query=RoleCount(3_060, 11_659), gallery=RoleCount(3_060, 82_161)
)
COUNTS_WITH_VAL = SplitCounts(
    train=RoleCount(1_041, 32_621), query=COUNTS.query, gallery=COUNTS.gallery
)

_SPELLINGS = (
    "msmt17/MSMT17_V1", "msmt17/MSMT17_V2", "MSMT17_V1", "MSMT17_V2", "msmt17", "MSMT17", ".",
)  # fmt: skip
# Folders of (train and val, query and gallery), by version.
_VERSIONS = {"V1": ("train", "test"), "V2": ("mask_train_v2", "mask_test_v2")}
_LINE = re.compile(
    r"(?P<path>(?:[0-9]+/)?(?P<name>[0-9]+_[0-9]+_(?P<camera>[0-9]{2})_[ -.0-~]*"
    + IMAGE_SUFFIX
    + r"))\s+(?P<pid>[0-9]{1,9})",
    re.IGNORECASE,
)
_NUM_CAMERAS = 15


@dataclass(frozen=True, slots=True)
class _Listed:
    key: str
    pid: int
    camera: int


def read(root: Path, *, trial: int, streams: Streams, has_val: bool = False) -> Split:  # noqa: ARG001
    """Read MSMT17 by its list files.

    The lists number the people of train and of test both from 0. Here test identities are the
    listed number plus one, and training identities follow behind them: one number, one person.

    Args:
        root: the folder with ``list_train.txt``, or one above it.
        trial: 0, as the split is fixed.
        streams: not used, nothing is drawn.
        has_val: train on the validation images too.

    Returns:
        The split; the version read and the images left out are in its notes.

    Raises:
        DatasetError: if the layout is not there, a line does not parse or an image is missing.
        ConfigError: if ``trial`` is not 0.
    """
    name = "msmt17-trainval" if has_val else "msmt17"
    check_trial(name, trial, 1)
    base = find_base(
        root,
        _SPELLINGS,
        holds=lambda folder: (folder / "list_train.txt").is_file() and bool(_version(folder)),
        what="MSMT17 (list_train.txt beside train and test, or mask_train_v2 and mask_test_v2)",
    )
    version = _version(base)
    train_folder, test_folder = _VERSIONS[version]
    train = _read_list(base, "list_train.txt", train_folder)
    val = _read_list(base, "list_val.txt", train_folder)
    query = _read_list(base, "list_query.txt", test_folder)
    gallery = _read_list(base, "list_gallery.txt", test_folder)
    behind_test = 1 + max(i.pid for i in (*query, *gallery))
    notes = (
        f"version {version[1:]}",
        *(() if has_val else (f"left out {len(val)} images of val",)),
    )
    split = Split(
        name=name,
        train=_records(base, [*train, *val] if has_val else train, first_pid=1 + behind_test),
        query=_records(base, query, first_pid=1),
        gallery=_records(base, gallery, first_pid=1),
        notes=notes,
    )
    return with_differences(split, COUNTS_WITH_VAL if has_val else COUNTS)


def _version(folder: Path) -> str:
    present = (v for v, parts in _VERSIONS.items() if all(is_folder(folder / p) for p in parts))
    return next(present, "")


def _read_list(base: Path, list_name: str, folder: str) -> list[_Listed]:
    images: list[_Listed] = []
    missing: list[str] = []
    for number, line in enumerate(read_text(base / list_name).splitlines(), start=1):
        if not line.strip():
            continue
        # A path in a list cannot climb out of the folder: the pattern knows no "..", and no
        # "/" but the one after the identity.
        match = _LINE.fullmatch(line.strip())
        if match is None or not 1 <= int(match["camera"]) <= _NUM_CAMERAS:
            raise DatasetError(
                f"{base / list_name}, line {number}: expected a path and an identity like "
                f"'0000/0000_000_01_0303morning_0015_0.jpg 0' with camera 01 to {_NUM_CAMERAS}"
            )
        if defect(base / folder / match["path"]):
            missing.append(match["path"])
        images.append(_Listed(f"{folder}/{match['path']}", int(match["pid"]), int(match["camera"])))
    if missing:
        raise DatasetError(
            f"{base / folder}: {listed(missing)} of {list_name} missing or empty; unpack the data "
            "set again"
        )
    if not images:
        raise DatasetError(f"{base / list_name}: no line with an image")
    return images


def _records(base: Path, images: list[_Listed], *, first_pid: int) -> tuple[Record, ...]:
    return tuple(
        Record(
            key=i.key,
            pid=i.pid + first_pid,
            camid=i.camera - 1,
            resolution=Resolution.UNKNOWN,
            source=FileSource(base / i.key),
        )
        for i in sorted(images, key=lambda i: i.key)
    )
