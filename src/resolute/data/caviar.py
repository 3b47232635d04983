"""CAVIAR4REID: 50 people seen far away and near by, so low resolution is real [Cheng 2011]."""

import re
from pathlib import Path

from resolute.core.errors import DatasetError
from resolute.core.rng import Streams
from resolute.core.types import Record, Resolution, Split
from resolute.data.counts import RoleCount, SplitCounts, with_differences
from resolute.data.decode import FileSource
from resolute.data.files import find_base, holds_any, scan
from resolute.data.views import check_trial, draw_test_pids, seen_by_both, split_by_view

NUM_TRIALS = 10
COUNTS = SplitCounts(train=RoleCount(25, 500), query=RoleCount(25, 250), gallery=RoleCount(25, 250))

_SPELLINGS = (
    "CAVIAR4REID/archive", "CAVIAR4REID", "caviar4reid/archive", "caviar4reid", "CAVIARa",
    "caviar/CAVIAR4REID/archive", "caviar/CAVIAR4REID", "caviar", "archive", ".",
)  # fmt: skip
# Person and image number, joined (original) or divided (PETA's copy). The suffix is part of the
# pattern: CUHK01 has seven digits too, but png.
_NAME = re.compile(r"([0-9]{4})_?([0-9]{3})\.jpe?g", re.IGNORECASE)
_LAST_HR, _LAST_LR = 10, 20


def read(root: Path, *, trial: int, streams: Streams) -> Split:
    """Read CAVIAR4REID: ten seeded halves of the 50 people whom both views have seen.

    Image numbers 1-10 are the near view (mean height 101 px): HR, camid 0, gallery. Numbers
    11-20 are the far one (59 px): LR, camid 1, queries [measured, see docs/datasets.md].

    Args:
        root: the folder with the images, or one above it.
        trial: which half, 0..9.
        streams: all random streams of the run; the halves depend on the seed.

    Returns:
        The split; the people left out are in its notes.

    Raises:
        DatasetError: if the layout is not there or a file is not of this data set.
        ConfigError: if there is no such trial.
    """
    check_trial("caviar", trial, NUM_TRIALS)
    base = find_base(
        root,
        _SPELLINGS,
        holds=lambda folder: holds_any(folder, _NAME),
        what="CAVIAR4REID (a folder of images like 0001001.jpg or 0001_001.jpg)",
    )
    matches = scan(base, _NAME, example="0001001.jpg or 0001_001.jpg")
    records, notes = seen_by_both([_record(base, match) for match in matches])
    pids = {r.pid for r in records}
    test = draw_test_pids("caviar", pids, num_test=len(pids) // 2, trial=trial, streams=streams)
    split = split_by_view(f"caviar trial {trial}", records, test, notes=notes)
    return with_differences(split, COUNTS)


def _record(base: Path, match: re.Match[str]) -> Record:
    number = int(match[2])
    if not 1 <= number <= _LAST_LR:
        raise DatasetError(
            f"{base / match.string}: image number {number}; CAVIAR4REID has 1 to {_LAST_LR}"
        )
    is_lr = number > _LAST_HR
    return Record(
        key=match.string,
        pid=int(match[1]),
        camid=int(is_lr),
        resolution=Resolution.LR if is_lr else Resolution.HR,
        source=FileSource(base / match.string),
    )
