"""Say what stands in a folder of data sets, against the published counts."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from resolute.core.errors import ConfigError, DatasetError
from resolute.core.rng import Streams
from resolute.core.types import Record, Source, Split
from resolute.data.catalogue import DATASETS, find_dataset
from resolute.data.counts import ROLES, RoleCount, agree, count
from resolute.data.files import NoLayoutError, is_folder

# Reads any Market-style folder, so it is asked only where no data set of a name stands.
_CATCH_ALL = "folder"
_SAMPLE = 64
_THREADS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleCheck:
    """One role of one data set.

    Attributes:
        role: ``train``, ``query`` or ``gallery``.
        found: what was read.
        published: what was published, None where nothing is.
    """

    role: str
    found: RoleCount
    published: RoleCount | None

    @property
    def is_complete(self) -> bool:
        """Whether nothing differs from what was published."""
        return self.published is None or agree(self.found, self.published)


@dataclass(frozen=True, slots=True, kw_only=True)
class SetCheck:
    """One data set found.

    Attributes:
        name: key of ``DATASETS``.
        roles: counts per role; empty if the data set could not be read.
        notes: what the reader found worth saying: missing parts, dropped images.
        error: why it could not be read; empty if it could.
        num_decoded: images decoded to see whether they are whole.
        num_images: images there are.
        broken: one message per image that could not be decoded.
    """

    name: str
    roles: tuple[RoleCheck, ...] = ()
    notes: tuple[str, ...] = ()
    error: str = ""
    num_decoded: int = 0
    num_images: int = 0
    broken: tuple[str, ...] = ()

    @property
    def is_usable(self) -> bool:
        """Whether it was read and no decoded image is broken; it may be incomplete."""
        return not self.error and not self.broken

    @property
    def is_complete(self) -> bool:
        """Whether it is usable and every count is the published one."""
        return self.is_usable and all(role.is_complete for role in self.roles)


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckReport:
    """What stands in a folder.

    Attributes:
        root: the folder looked at.
        sets: data sets found, in the order of ``DATASETS``.
        absent: names of those looked for and not found.
    """

    root: Path
    sets: tuple[SetCheck, ...]
    absent: tuple[str, ...]

    @property
    def is_usable(self) -> bool:
        """Whether every data set found can be used."""
        return all(s.is_usable for s in self.sets)


def check(root: Path, name: str = "", *, full: bool = False, seed: int = 0) -> CheckReport:
    """Find data sets in a folder, count them and decode a sample of their images.

    Args:
        root: folder with one or several data sets.
        name: look for this one alone; empty for all.
        full: decode every image in place of a sample of 64.
        seed: of the drawn splits; the counts do not depend on it.

    Returns:
        What was found. A data set whose layout is there but that cannot be read is in it too,
        with its error.

    Raises:
        DatasetError: if there is no such folder, or nothing known stands in it.
        NoLayoutError: if the one of that name does not stand in it.
        ConfigError: if there is no data set of that name, or it is drawn and has no files.
    """
    root = Path(root).expanduser()
    if not is_folder(root):
        raise DatasetError(f"{root}: no such folder; give the folder that holds the data sets")
    if name and not find_dataset(name).has_files:
        raise ConfigError(f"{name}: this data set is drawn and has no files to check")
    wanted = [n for n, info in DATASETS.items() if info.has_files and name in ("", n)]
    found: list[SetCheck] = []
    absent: list[str] = []
    for candidate in wanted:
        if candidate == _CATCH_ALL and found:
            continue
        try:
            found.append(_check_one(root, candidate, full=full, seed=seed))
        except NoLayoutError:
            if name:
                raise
            absent.append(candidate)
    if not found:
        raise DatasetError(
            f"{root}: no data set found; looked for {', '.join(absent)}, each by the folder names "
            "of docs/datasets.md"
        )
    return CheckReport(root=root, sets=tuple(found), absent=tuple(absent))


def _check_one(root: Path, name: str, *, full: bool, seed: int) -> SetCheck:
    info = find_dataset(name)
    try:
        split = info.read(root, trial=0, streams=Streams(seed))
    except NoLayoutError:
        raise
    except DatasetError as error:
        return SetCheck(name=name, error=str(error))
    found = count(split)
    roles = tuple(
        RoleCheck(
            role=role,
            found=getattr(found, role),
            published=getattr(info.counts, role) if info.counts else None,
        )
        for role in ROLES
    )
    records = list(_distinct(split))
    sample = records if full else records[:: max(1, len(records) // _SAMPLE)]
    # Threads, as decoding leaves Python's lock; a file in a raw container waits its turn.
    with ThreadPoolExecutor(_THREADS) as pool:
        defects = pool.map(_decode_defect, [r.source for r in sample])
        broken = tuple(defect for defect in defects if defect)
    return SetCheck(
        name=name,
        roles=roles,
        notes=split.notes,
        num_decoded=len(sample),
        num_images=len(records),
        broken=broken,
    )


def _distinct(split: Split) -> Iterator[Record]:
    seen: set[str] = set()
    for record in (*split.train, *split.query, *split.gallery):
        if record.key not in seen:
            seen.add(record.key)
            yield record


def _decode_defect(source: Source) -> str:
    try:
        source.pixels()
    except DatasetError as error:
        return str(error)
    return ""
