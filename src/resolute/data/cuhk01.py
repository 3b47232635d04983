"""CUHK01: 971 people, two pictures in each of two views [Li 2012]."""

import re
from pathlib import Path

from resolute.core.rng import Streams
from resolute.core.types import Record, Resolution, Split
from resolute.data.counts import RoleCount, SplitCounts, with_differences
from resolute.data.decode import FileSource
from resolute.data.files import find_base, holds_any, scan
from resolute.data.views import check_trial, draw_test_pids, seen_by_both, split_by_view

NUM_TRIALS = 10
COUNTS = SplitCounts(
    train=RoleCount(485, 1940), query=RoleCount(486, 972), gallery=RoleCount(486, 972)
)

_SPELLINGS = ("cuhk01/campus", "CUHK01/campus", "cuhk01", "CUHK01", "campus", ".")
# Person and image number: 1, 2 are view a; 3, 4 view b.
_NAME = re.compile(r"([0-9]{4})(00[1-4])\.png", re.IGNORECASE)


def read(root: Path, *, trial: int, streams: Streams) -> Split:
    """Read CUHK01: ten seeded splits, 485 identities to train on and 486 to test.

    Queries are of view b (camid 1, images 3 and 4), the gallery is view a (camid 0).

    Args:
        root: the folder with the images, or one above it.
        trial: which split, 0..9.
        streams: all random streams of the run; the splits depend on the seed.

    Returns:
        The split; other counts than the published ones are in its notes.

    Raises:
        DatasetError: if the layout is not there or a file is not of this data set.
        ConfigError: if there is no such trial.
    """
    check_trial("cuhk01", trial, NUM_TRIALS)
    base = find_base(
        root,
        _SPELLINGS,
        holds=lambda folder: holds_any(folder, _NAME),
        what="CUHK01 (folder campus with images like 0001001.png)",
    )
    records, notes = seen_by_both(
        [
            Record(
                key=match.string,
                pid=int(match[1]),
                camid=(int(match[2]) - 1) // 2,
                resolution=Resolution.UNKNOWN,
                source=FileSource(base / match.string),
            )
            for match in scan(base, _NAME, example="0001001.png")
        ]
    )
    pids = {r.pid for r in records}
    num_test = len(pids) - len(pids) // 2
    test = draw_test_pids("cuhk01", pids, num_test=num_test, trial=trial, streams=streams)
    split = split_by_view(f"cuhk01 trial {trial}", records, test, notes=notes)
    return with_differences(split, COUNTS)
