"""Any Market-style folder, and the prepared multi-resolution sets met in the wild.

Two layouts: ``bounding_box_train``, ``query``, ``bounding_box_test`` with flat images, and
``train``, ``query``, ``gallery`` with one folder per identity.
"""

import re
from pathlib import Path

from resolute.core.errors import DatasetError
from resolute.core.rng import Streams
from resolute.core.types import Split
from resolute.data.files import IMAGE_SUFFIX, find_base, is_folder, sub_folders
from resolute.data.market_style import (
    ANY_NAME,
    DISTRACTOR_PID,
    NamedImage,
    assemble,
    has_market_folders,
    read_folder,
    read_market_folders,
)
from resolute.data.views import check_trial

_IDENTITY_ROLES = ("train", "query", "gallery")
_IDENTITY = re.compile(r"-1|[0-9]{1,9}")
_RATE_SUFFIX = re.compile(r".*_[0-9]x" + IMAGE_SUFFIX, re.IGNORECASE)


def read(root: Path, *, trial: int, streams: Streams) -> Split:  # noqa: ARG001 (fixed split)
    """Read a folder of the user's own in one of the two layouts.

    Cameras count from 1 on disk, or from 0 if any file says ``c0``. Identity 0 is a distractor
    unless it stands in train or query, then it is a person and all identities are raised by one.
    Neither a folder ``val`` nor a rate in a file name (``_2x``) is used; both are noted.

    Args:
        root: the folder that holds the role folders; ``~`` is expanded.
        trial: 0, as the split is fixed.
        streams: not used, nothing is drawn.

    Returns:
        The split, named after the folder.

    Raises:
        DatasetError: if the layout is not there or a file's name does not parse.
        ConfigError: if ``trial`` is not 0.
    """
    check_trial("folder", trial, 1)
    base = find_base(
        root,
        (".",),
        holds=lambda folder: has_market_folders(folder) or _has_identity_folders(folder),
        what="Market-style folder (bounding_box_train, query and bounding_box_test, or train, "
        "query and gallery with one folder per identity)",
    )
    if has_market_folders(base):
        images = read_market_folders(base, ANY_NAME)
    else:
        images = {role: _read_identities(base, role) for role in _IDENTITY_ROLES}
    people = {i.pid for role in ("train", "query") for i in images[role]}
    cameras = {i.camera for named in images.values() for i in named}
    first_pid = int(DISTRACTOR_PID not in people)
    return assemble(
        f"folder {base.resolve().name}",
        base,
        images,
        first_camera=min(1, *cameras) if cameras else 1,
        first_pid=first_pid,
        notes=_notes(base, images, counts_from_zero=not first_pid),
    )


def _has_identity_folders(folder: Path) -> bool:
    return all(
        is_folder(folder / role) and any(map(_IDENTITY.fullmatch, sub_folders(folder / role)))
        for role in _IDENTITY_ROLES
    )


def _read_identities(base: Path, role: str) -> list[NamedImage]:
    images: list[NamedImage] = []
    for name in sub_folders(base / role):
        if not _IDENTITY.fullmatch(name):
            raise DatasetError(f"{base / role / name}: expected folders named by identity, as 0002")
        found = read_folder(base, f"{role}/{name}", ANY_NAME)
        for image in found:
            if image.pid != int(name):
                raise DatasetError(
                    f"{base / image.key}: the file says identity {image.pid}, its folder {name}; "
                    "move or rename it"
                )
        images.extend(found)
    return images


def _notes(base: Path, images: dict[str, list[NamedImage]], *, counts_from_zero: bool) -> list[str]:
    notes = []
    if counts_from_zero:
        notes.append("identity 0 is a person here: all identities are raised by one")
    if is_folder(base / "val"):
        notes.append("the folder val is not used")
    suffixed = sum(bool(_RATE_SUFFIX.fullmatch(i.key)) for named in images.values() for i in named)
    if suffixed:
        notes.append(
            f"{suffixed} file names end in a rate (_2x): no rate is taken from names; only the "
            "manifest of `resolute mlr build` is trusted with it"
        )
    return notes
