"""Market-style naming: ``0002_c1s1_000451_03.jpg`` is identity 2 at camera 1 [Zheng 2015].

Only base names are parsed: a folder called ``run_1_c2`` says nothing of a person.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from resolute.core.errors import DatasetError
from resolute.core.types import Record, Resolution, Split
from resolute.data.decode import FileSource
from resolute.data.files import IMAGE_SUFFIX, is_folder, listed, scan

JUNK_PID, DISTRACTOR_PID = -1, 0
FOLDERS = {"train": "bounding_box_train", "query": "query", "gallery": "bounding_box_test"}


@dataclass(frozen=True, slots=True)
class Naming:
    """How the images of a data set are named.

    Attributes:
        pattern: of the whole base name, with groups ``pid`` and ``camera``.
        example: a name that parses, for messages.
        num_cameras: cameras on disk are 1 to this; 0 where any number will do.
    """

    pattern: re.Pattern[str]
    example: str
    num_cameras: int = 0


@dataclass(frozen=True, slots=True)
class NamedImage:
    """One image as its name says.

    Attributes:
        key: path relative to the data set's folder.
        pid: identity on disk.
        camera: camera on disk.
    """

    key: str
    pid: int
    camera: int


def naming(after_camera: str, *, example: str, num_cameras: int = 0) -> Naming:
    """Build a naming from what follows ``<identity>_c<camera>``.

    Args:
        after_camera: regular expression.
        example: a name that parses.
        num_cameras: cameras on disk are 1 to this; 0 where any number will do.

    Returns:
        The naming.
    """
    head = r"(?P<pid>-1|[0-9]{1,9})_c(?P<camera>[0-9]{1,4})"
    return Naming(re.compile(head + after_camera + IMAGE_SUFFIX, re.I), example, num_cameras)


# Printable ASCII alone: a key goes into digests and manifests.
ANY_NAME = naming(r"(?:[s_.][ -~]*)?", example="0002_c1s1_000451_03.jpg")


def has_market_folders(base: Path) -> bool:
    """Tell whether a folder holds at least one of the three Market-style folders of images.

    Args:
        base: any folder.

    Returns:
        ``query`` alone does not count, as other layouts have it too.
    """
    return any(is_folder(base / FOLDERS[role]) for role in ("train", "gallery"))


def read_folder(base: Path, folder: str, names: Naming) -> list[NamedImage]:
    """Read the names of one folder of images.

    Args:
        base: the data set's folder.
        folder: path of the images relative to it.
        names: how they are named.

    Returns:
        Images sorted by key.

    Raises:
        DatasetError: if the folder is missing, empty or holds a file that does not belong.
    """
    matches = scan(base / folder, names.pattern, example=names.example)
    images = [NamedImage(f"{folder}/{m.string}", int(m["pid"]), int(m["camera"])) for m in matches]
    strange = [
        i.key for i in images if names.num_cameras and not 1 <= i.camera <= names.num_cameras
    ]
    if strange:
        raise DatasetError(
            f"{base}: {listed(strange)} of a camera that this data set does not have; expected "
            f"cameras 1 to {names.num_cameras}"
        )
    return images


def read_market_folders(base: Path, names: Naming) -> dict[str, list[NamedImage]]:
    """Read ``bounding_box_train``, ``query`` and ``bounding_box_test``.

    Args:
        base: the data set's folder.
        names: how the images are named.

    Returns:
        Images by role.

    Raises:
        DatasetError: if a folder is missing, empty or holds a file that does not belong.
    """
    return {role: read_folder(base, folder, names) for role, folder in FOLDERS.items()}


def assemble(
    name: str,
    base: Path,
    images: Mapping[str, Sequence[NamedImage]],
    *,
    first_camera: int = 1,
    first_pid: int = 1,
    notes: Sequence[str] = (),
) -> Split:
    """Turn named images into a split: junk dropped, distractors kept, both said in the notes.

    Args:
        name: printed name of the split.
        base: the data set's folder.
        images: by role ``train``, ``query``, ``gallery``.
        first_camera: number of camera 0 on disk.
        first_pid: 1 where identity 0 on disk means distractor, 0 where it is a person; then all
            identities are raised by one.
        notes: what else is worth saying.

    Returns:
        Records sorted by key in each role.

    Raises:
        DatasetError: if a role holds junk alone.
    """
    records: dict[str, tuple[Record, ...]] = {}
    said = list(notes)
    for role, named in images.items():
        kept = [i for i in named if i.pid != JUNK_PID]
        if not kept:
            raise DatasetError(f"{base}: {role} holds no image but junk (identity -1)")
        if len(kept) < len(named):
            said.append(f"{role}: dropped {len(named) - len(kept)} junk images (identity -1)")
        records[role] = tuple(
            Record(
                key=i.key,
                pid=i.pid + 1 - first_pid,
                camid=i.camera - first_camera,
                resolution=Resolution.UNKNOWN,
                source=FileSource(base / i.key),
            )
            for i in sorted(kept, key=lambda i: i.key)
        )
    distractors = sum(r.pid == DISTRACTOR_PID for r in records["gallery"])
    if distractors:
        said.append(f"gallery: kept {distractors} distractor images (identity 0)")
    said.extend(_shared_pids(records))
    return Split(name=name, notes=tuple(said), **records)


def _shared_pids(records: Mapping[str, Sequence[Record]]) -> Iterator[str]:
    train = {r.pid for r in records["train"]}
    shared = len(train & {r.pid for r in (*records["query"], *records["gallery"])})
    if shared:
        yield (
            f"{shared} identity numbers stand in train and in test: if these are the same people, "
            "no score on this data is valid"
        )
