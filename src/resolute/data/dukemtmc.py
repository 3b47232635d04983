"""DukeMTMC-reID: 1,404 people, eight cameras; withdrawn by its owners [Ristani 2016]."""

from pathlib import Path

from resolute.core.rng import Streams
from resolute.core.types import Split
from resolute.data.counts import RoleCount, SplitCounts, with_differences
from resolute.data.files import find_base, holds_any
from resolute.data.market_style import FOLDERS, assemble, naming, read_market_folders
from resolute.data.views import check_trial

COUNTS = SplitCounts(
    train=RoleCount(702, 16_522), query=RoleCount(702, 2_228), gallery=RoleCount(1_110, 17_661)
)

_SPELLINGS = ("dukemtmc-reid/DukeMTMC-reID", "DukeMTMC-reID", "dukemtmcreid", "dukemtmc-reid", ".")
_NAMING = naming(r"_f[0-9]+", example="0001_c2_f0046182.jpg", num_cameras=8)


def read(root: Path, *, trial: int, streams: Streams) -> Split:  # noqa: ARG001 (fixed split)
    """Read DukeMTMC-reID in its published split.

    The 408 people whom one camera alone has seen stay in the gallery, where they match nobody.

    Args:
        root: the folder with ``bounding_box_train``, or one above it.
        trial: 0, as the split is fixed.
        streams: not used, nothing is drawn.

    Returns:
        The split; other counts than the published ones are in its notes.

    Raises:
        DatasetError: if the layout is not there or a file is not of this data set.
        ConfigError: if ``trial`` is not 0.
    """
    check_trial("dukemtmc-reid", trial, 1)
    base = find_base(
        root,
        _SPELLINGS,
        holds=lambda folder: any(holds_any(folder / f, _NAMING.pattern) for f in FOLDERS.values()),
        what="DukeMTMC-reID (bounding_box_train, query and bounding_box_test with names like "
        f"{_NAMING.example})",
    )
    split = assemble("dukemtmc-reid", base, read_market_folders(base, _NAMING))
    return with_differences(split, COUNTS)
