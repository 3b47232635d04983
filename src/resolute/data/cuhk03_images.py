"""The images of CUHK03, in Torchreid's folders or in the raw file, and how they are named."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from resolute.core.errors import DatasetError
from resolute.core.types import Record, Resolution, Source
from resolute.data.cuhk03_mat import list_images
from resolute.data.decode import FileSource
from resolute.data.files import IMAGE_SUFFIX, find_base, is_folder, scan

Boxes = Literal["labeled", "detected"]

# People per camera pair, and what to add to a person's number to count over all pairs.
PAIR_SIZES = (843, 440, 77, 58, 49)
PAIR_OFFSETS = (0, 843, 1283, 1360, 1418)

_SPELLINGS = ("cuhk03", "CUHK03", ".")
_RAW = ("cuhk03_release/cuhk-03.mat", "CUHK03_release/CUHK-03.mat", "cuhk-03.mat", "CUHK-03.mat")
_NAME = re.compile(
    r"(?P<stem>(?P<pair>[1-5])_(?P<person>[0-9]{3})_(?P<view>[12])_[0-9]{2})" + IMAGE_SUFFIX,
    re.IGNORECASE,
)
_EXAMPLE = "1_001_1_01.png"


@dataclass(frozen=True, slots=True)
class Cuhk03Folder:
    """What stands in a folder of CUHK03 for one kind of boxes.

    Attributes:
        base: the folder.
        boxes: ``labeled`` by hand or ``detected``.
        images: Torchreid's folder of images, None where there is none.
        raw: the file ``cuhk-03.mat``, None where there is none.
    """

    base: Path
    boxes: Boxes
    images: Path | None
    raw: Path | None

    def beside(self, name: str) -> Path | None:
        """Find a file of lists in the folder or beside the raw file.

        Args:
            name: base name of the file.

        Returns:
            Its path, None where there is none.
        """
        return _first_file(self.base, (name, f"cuhk03_release/{name}", f"CUHK03_release/{name}"))


def find_images(root: Path, boxes: Boxes) -> Cuhk03Folder:
    """Find the images of CUHK03.

    Args:
        root: the folder with ``images_labeled``, ``images_detected`` or ``cuhk-03.mat``, or one
            above it.
        boxes: ``labeled`` by hand or ``detected``.

    Returns:
        What stands there; images or raw file or both.

    Raises:
        DatasetError: if neither stands there.
    """
    base = find_base(
        root,
        _SPELLINGS,
        holds=lambda f: is_folder(f / f"images_{boxes}") or _first_file(f, _RAW) is not None,
        what=f"CUHK03 (folder images_{boxes} or file cuhk-03.mat)",
    )
    images = base / f"images_{boxes}"
    return Cuhk03Folder(base, boxes, images if is_folder(images) else None, _first_file(base, _RAW))


def read_images(folder: Cuhk03Folder) -> dict[str, Record]:
    """Read all images; Torchreid's folder goes before the raw file.

    Args:
        folder: where they are.

    Returns:
        Records by base name without suffix. A record from the raw file has the key of the file
        that Torchreid would write, so that draws by key agree.

    Raises:
        DatasetError: if a file is not of this data set, or an image is there twice.
    """
    prefix = f"images_{folder.boxes}"
    records: list[Record] = []
    if folder.images is not None:
        for match in scan(folder.images, _NAME, example=_EXAMPLE):
            source = FileSource(folder.images / match.string)
            records.append(_record(match["stem"], f"{prefix}/{match.string}", source))
    elif folder.raw is not None:
        for s in list_images(folder.raw, folder.boxes):
            stem = f"{s.pair + 1}_{s.person + 1:03d}_{1 + s.column // 5}_{s.column + 1:02d}"
            records.append(_record(stem, f"{prefix}/{stem}.png", s))
    by_stem = {r.key.rpartition("/")[2].partition(".")[0]: r for r in records}
    if len(by_stem) < len(records):
        raise DatasetError(
            f"{folder.images}: {len(records) - len(by_stem)} images are there twice, with two "
            "suffixes; remove one of each"
        )
    return by_stem


def parse_stem(stem: str, *, where: Path | str) -> tuple[int, int]:
    """Read identity and camera from a base name.

    Args:
        stem: base name without suffix, ``pair_person_view_image``.
        where: file or list it stands in, for the message.

    Returns:
        (pid 1..1467 over all pairs, camid 0 or 1).

    Raises:
        DatasetError: if it is no name of CUHK03.
    """
    match = _NAME.fullmatch(f"{stem}.png")
    if match is None:
        raise DatasetError(f"{where}: {stem!r} is no image of CUHK03; expected names as {_EXAMPLE}")
    return number_pid(int(match["pair"]), int(match["person"]), where=where), int(match["view"]) - 1


def number_pid(pair: int, person: int, *, where: Path | str) -> int:
    """Number a person over all camera pairs.

    Args:
        pair: camera pair, 1..5.
        person: number within the pair, from 1.
        where: file or list it stands in, for the message.

    Returns:
        Identity 1..1467.

    Raises:
        DatasetError: if the pair has no such person.
    """
    if not (1 <= pair <= len(PAIR_SIZES) and 1 <= person <= PAIR_SIZES[pair - 1]):
        raise DatasetError(
            f"{where}: person {person} of camera pair {pair}; pairs 1 to 5 have {PAIR_SIZES} people"
        )
    return PAIR_OFFSETS[pair - 1] + person


def _record(stem: str, key: str, source: Source) -> Record:
    pid, camid = parse_stem(stem, where=key)
    return Record(key=key, pid=pid, camid=camid, resolution=Resolution.UNKNOWN, source=source)


def _first_file(base: Path, names: tuple[str, ...]) -> Path | None:
    return next((base / name for name in names if (base / name).is_file()), None)
