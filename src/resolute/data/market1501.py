"""Market-1501: 1,501 people, six cameras, detected boxes [Zheng 2015]."""

from pathlib import Path

from resolute.core.rng import Streams
from resolute.core.types import Split
from resolute.data.counts import RoleCount, SplitCounts, with_differences
from resolute.data.files import find_base, holds_any
from resolute.data.market_style import FOLDERS, assemble, naming, read_market_folders
from resolute.data.views import check_trial

COUNTS = SplitCounts(
    train=RoleCount(751, 12_936), query=RoleCount(750, 3_368), gallery=RoleCount(751, 15_913)
)

_SPELLINGS = (
    "market1501/Market-1501-v15.09.15", "Market-1501-v15.09.15", "market1501", "Market-1501",
    "Market1501", "Market", "market", ".",
)  # fmt: skip
_NAMING = naming(r"s[0-9]+_[ -~]+", example="0002_c1s1_000451_03.jpg", num_cameras=6)


def read(root: Path, *, trial: int, streams: Streams) -> Split:  # noqa: ARG001 (fixed split)
    """Read Market-1501 in its published split.

    Junk (identity -1) is dropped and distractors (identity 0) stay in the gallery, as in the
    toolboxes whose scores are quoted. Test identities keep their numbers.

    Args:
        root: the folder with ``bounding_box_train``, or one above it.
        trial: 0, as the split is fixed.
        streams: not used, nothing is drawn.

    Returns:
        The split; what was dropped and kept is in its notes.

    Raises:
        DatasetError: if the layout is not there or a file is not of this data set.
        ConfigError: if ``trial`` is not 0.
    """
    check_trial("market1501", trial, 1)
    base = find_base(
        root,
        _SPELLINGS,
        holds=lambda folder: any(holds_any(folder / f, _NAMING.pattern) for f in FOLDERS.values()),
        what="Market-1501 (bounding_box_train, query and bounding_box_test with names like "
        f"{_NAMING.example})",
    )
    split = assemble("market1501", base, read_market_folders(base, _NAMING))
    return with_differences(split, COUNTS)
