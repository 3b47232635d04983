"""The table of data sets: one line each, nothing registers itself."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Protocol

from resolute.core.config import unknown_name
from resolute.core.errors import ConfigError
from resolute.core.rng import Streams
from resolute.core.types import Record, Split
from resolute.data import (
    caviar,
    cuhk01,
    cuhk03,
    dukemtmc,
    folders,
    market1501,
    msmt17,
    synthetic,
    viper,
)
from resolute.data.counts import SplitCounts
from resolute.data.synthetic import SyntheticConfig


class Reader(Protocol):
    """A function that reads one split of a data set."""

    def __call__(self, root: Path, *, trial: int, streams: Streams) -> Split:
        """Read the split of one trial from a folder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetInfo:
    """One data set.

    Attributes:
        title: name in prose.
        read: reads one split.
        num_trials: number of splits; trials count from 0.
        counts: published identities and images per role, None where there are none.
        lr_camid: camera that an MLR benchmark makes low-resolution by default; None where it is
            to be chosen, or where low resolution is real.
        terms: licence or withdrawal, in words.
        is_verified: whether the reader was ever run on the real data.
        has_files: False where the images are drawn and ``root`` is not looked at.
        has_real_lr: whether one of its cameras is LR by nature, so that nothing is to be shrunk.
    """

    title: str
    read: Reader
    num_trials: int
    counts: SplitCounts | None
    lr_camid: int | None
    terms: str
    is_verified: bool
    has_files: bool = True
    has_real_lr: bool = False


def _draw(root: Path, *, trial: int, streams: Streams) -> Split:  # noqa: ARG001 (no files)
    return synthetic.read(SyntheticConfig(), trial=trial, streams=streams)


_CUHK_TERMS = "research only, on request from the authors"
_cuhk03 = partial(
    DatasetInfo, num_trials=1, lr_camid=1, terms=_CUHK_TERMS, is_verified=False
)  # view 2 is the LR one [assumed]

DATASETS: dict[str, DatasetInfo] = {
    "viper": DatasetInfo(
        title="VIPeR",
        read=viper.read,
        num_trials=viper.NUM_TRIALS,
        counts=viper.COUNTS,
        lr_camid=1,
        terms="research only",
        is_verified=True,
    ),
    "caviar": DatasetInfo(
        title="CAVIAR4REID",
        read=caviar.read,
        num_trials=caviar.NUM_TRIALS,
        counts=caviar.COUNTS,
        lr_camid=None,
        terms="research only",
        is_verified=False,
        has_real_lr=True,
    ),
    "cuhk01": DatasetInfo(
        title="CUHK01",
        read=cuhk01.read,
        num_trials=cuhk01.NUM_TRIALS,
        counts=cuhk01.COUNTS,
        lr_camid=None,
        terms=_CUHK_TERMS,
        is_verified=False,
    ),
    "cuhk03-classic-labeled": _cuhk03(
        title="CUHK03, classic protocol, labelled boxes",
        read=partial(cuhk03.read_classic, boxes="labeled"),
        num_trials=cuhk03.NUM_TRIALS,
        counts=cuhk03.COUNTS_CLASSIC,
    ),
    "cuhk03-classic-detected": _cuhk03(
        title="CUHK03, classic protocol, detected boxes",
        read=partial(cuhk03.read_classic, boxes="detected"),
        num_trials=cuhk03.NUM_TRIALS,
        counts=cuhk03.COUNTS_CLASSIC,
    ),
    "cuhk03-new-labeled": _cuhk03(
        title="CUHK03, new protocol, labelled boxes",
        read=partial(cuhk03.read_new, boxes="labeled"),
        counts=cuhk03.COUNTS_NEW["labeled"],
    ),
    "cuhk03-new-detected": _cuhk03(
        title="CUHK03, new protocol, detected boxes",
        read=partial(cuhk03.read_new, boxes="detected"),
        counts=cuhk03.COUNTS_NEW["detected"],
    ),
    "cuhk03-p1": _cuhk03(
        title="CUHK03, camera pair 1, labelled boxes",
        read=cuhk03.read_pair_one,
        counts=cuhk03.COUNTS_PAIR_ONE,
        is_verified=True,
    ),
    "market1501": DatasetInfo(
        title="Market-1501",
        read=market1501.read,
        num_trials=1,
        counts=market1501.COUNTS,
        lr_camid=2,  # camera 3 on disk, as PS-HRNet
        terms="research only, not to be distributed",
        is_verified=False,
    ),
    "dukemtmc-reid": DatasetInfo(
        title="DukeMTMC-reID",
        read=dukemtmc.read,
        num_trials=1,
        counts=dukemtmc.COUNTS,
        lr_camid=None,
        terms="withdrawn by its owners in 2019: read only where you hold it already",
        is_verified=False,
    ),
    "msmt17": DatasetInfo(
        title="MSMT17",
        read=msmt17.read,
        num_trials=1,
        counts=msmt17.COUNTS,
        lr_camid=None,
        terms="by signed agreement with the authors",
        is_verified=False,
    ),
    "msmt17-trainval": DatasetInfo(
        title="MSMT17, trained on its validation images too",
        read=partial(msmt17.read, has_val=True),
        num_trials=1,
        counts=msmt17.COUNTS_WITH_VAL,
        lr_camid=None,
        terms="by signed agreement with the authors",
        is_verified=False,
    ),
    "synthetic": DatasetInfo(
        title="drawn pedestrians, embedded",
        read=_draw,
        num_trials=10,
        counts=None,
        lr_camid=1,
        terms="ours, ships with the library",
        is_verified=True,
        has_files=False,
    ),
    "folder": DatasetInfo(
        title="any Market-style folder",
        read=folders.read,
        num_trials=1,
        counts=None,
        lr_camid=None,
        terms="yours",
        is_verified=False,
    ),
}


def find_dataset(name: str) -> DatasetInfo:
    """Look a data set up.

    Args:
        name: key of ``DATASETS``.

    Returns:
        What is known of it.

    Raises:
        ConfigError: if there is none of that name; the message gives the nearest, or the forms
            of a set that has several.
    """
    if name in DATASETS:
        return DATASETS[name]
    forms = [known for known in DATASETS if name and known.startswith(name)]
    if len(forms) > 1:
        raise ConfigError(f"data set {name!r} has several forms: choose one of {', '.join(forms)}")
    raise ConfigError(unknown_name("data set", name, list(DATASETS)))


def family(name: str) -> str:
    """Name the people of a data set: all forms of CUHK03, say, show the same ones.

    Args:
        name: of a data set, its multi-low-resolution benchmark or a split.
    """
    return _printed_set(name).partition("-")[0]


def data_name(split: str) -> str:
    """Return what ``data.name`` was for a split; of sets that train together, for the first.

    Args:
        split: its printed name.

    Examples:
        >>> data_name("mlr-viper/default/lr=cam1/thirds(2,3,4)/bicubic/trial0")
        'mlr-viper'
    """
    name = re.split("[ /]", split)[0]
    return re.sub("^(mlr-)?synthetic-seed[0-9]+$", r"\1synthetic", name)


def shows_same_people(first: str, second: str) -> bool:
    """Tell whether a number means the same person in two splits.

    Args:
        first: name of a split.
        second: name of another; drawings of another seed show other people.
    """
    if family(first) != family(second):
        return False
    return family(first) != "synthetic" or _printed_set(first) == _printed_set(second)


def _printed_set(name: str) -> str:
    return re.split("[ /]", name.removeprefix("mlr-"))[0]


def merge(splits: Sequence[Split]) -> Split:
    """Let several data sets train together; query and gallery are those of the first.

    The first keeps its identities and cameras; those of the others follow behind, so that no two
    people and no two cameras share a number. Keys get the data set's name in front.

    Args:
        splits: at least one, of different data sets.

    Returns:
        One split, its name and notes those of its parts.

    Raises:
        ConfigError: if there is no split, or two show people of one data set: those that one of
            them tests on may be those the other trains on.
    """
    prefixes = [split.name.split()[0] for split in splits]
    if not splits or len({family(split.name) for split in splits}) < len(splits):
        raise ConfigError(f"merge: expected splits of different data sets, got {prefixes}")
    train: list[Record] = []
    next_pid = next_camid = 0
    for prefix, split in zip(prefixes, splits, strict=True):
        train.extend(_shifted(split.train, prefix, pid=next_pid, camid=next_camid))
        everyone = [*split.train, *split.query, *split.gallery]
        next_pid += max((r.pid for r in everyone), default=0)
        next_camid += 1 + max((r.camid for r in everyone), default=-1)
    notes = (
        f"{p}: {note}" for p, split in zip(prefixes, splits, strict=True) for note in split.notes
    )
    return Split(
        name=" + ".join(split.name for split in splits),
        train=tuple(train),
        query=tuple(_shifted(splits[0].query, prefixes[0])),
        gallery=tuple(_shifted(splits[0].gallery, prefixes[0])),
        notes=tuple(notes),
    )


def scored_training(split: Split) -> tuple[Record, ...]:
    """Return the training records of the data set that is scored.

    Args:
        split: any, or one of :func:`merge`.

    Returns:
        All, or those of the first of several sets.
    """
    first, plus, _ = split.name.partition(" + ")
    prefix = f"{first.split()[0]}/" if plus else ""
    return tuple(record for record in split.train if record.key.startswith(prefix))


def _shifted(
    records: Sequence[Record], prefix: str, *, pid: int = 0, camid: int = 0
) -> list[Record]:
    return [
        replace(r, key=f"{prefix}/{r.key}", pid=r.pid + pid, camid=r.camid + camid) for r in records
    ]
