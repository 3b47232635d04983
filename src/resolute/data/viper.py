"""VIPeR: 632 people, one picture in each of two views [Gray 2007]."""

import re
from pathlib import Path

from resolute.core.rng import Streams
from resolute.core.types import Record, Resolution, Split
from resolute.data.counts import RoleCount, SplitCounts, with_differences
from resolute.data.decode import FileSource
from resolute.data.files import IMAGE_SUFFIX, find_base, is_folder, scan
from resolute.data.views import check_trial, draw_test_pids, seen_by_both, split_by_view

NUM_TRIALS = 10
COUNTS = SplitCounts(
    train=RoleCount(316, 632), query=RoleCount(316, 316), gallery=RoleCount(316, 316)
)

_SPELLINGS = ("viper/VIPeR", "VIPeR", "viper", ".")
_VIEWS = ("cam_a", "cam_b")
# Number of the person and angle to the camera in degrees.
_NAME = re.compile(r"([0-9]{3})_[0-9]{1,3}" + IMAGE_SUFFIX, re.IGNORECASE)


def read(root: Path, *, trial: int, streams: Streams) -> Split:
    """Read VIPeR: ten seeded halves, 316 identities to train on and 316 to test.

    Queries are of ``cam_b`` (camid 1), the gallery is ``cam_a`` (camid 0). Views are paired by
    the number in the file name, not by sort order. The identity is that number plus one, as 0
    stands for distractors everywhere.

    Args:
        root: the folder with ``cam_a`` and ``cam_b``, or one above it.
        trial: which half, 0..9.
        streams: all random streams of the run; the halves depend on the seed.

    Returns:
        The split; other counts than the published ones are in its notes.

    Raises:
        DatasetError: if the layout is not there or a file is not of this data set.
        ConfigError: if there is no such trial.
    """
    check_trial("viper", trial, NUM_TRIALS)
    base = find_base(
        root,
        _SPELLINGS,
        holds=lambda folder: any(is_folder(folder / view) for view in _VIEWS),
        what="VIPeR (folders cam_a and cam_b)",
    )
    records, notes = seen_by_both(
        [
            Record(
                key=f"{view}/{match.string}",
                pid=int(match[1]) + 1,
                camid=camid,
                resolution=Resolution.UNKNOWN,
                source=FileSource(base / view / match.string),
            )
            for camid, view in enumerate(_VIEWS)
            for match in scan(base / view, _NAME, example="001_45.bmp")
        ]
    )
    pids = {r.pid for r in records}
    test = draw_test_pids("viper", pids, num_test=len(pids) // 2, trial=trial, streams=streams)
    split = split_by_view(f"viper trial {trial}", records, test, notes=notes)
    return with_differences(split, COUNTS)
