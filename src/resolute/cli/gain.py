"""``resolute gain``: results against results, with intervals."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from resolute.cli.overrides import parse

if TYPE_CHECKING:
    from resolute.engine.result import Result


def run(parser: argparse.ArgumentParser, words: Sequence[str]) -> int:
    """Parse the words, pair the results and print what one side has over the other.

    Args:
        parser: empty parser of this verb.
        words: what follows the verb.

    Returns:
        The exit code.

    Raises:
        ConfigError: if results are missing, or do not pair.
    """
    parser.usage = (
        "resolute gain RESULT [RESULT ...] --over RESULT [RESULT ...] [--score NAME] "
        "[--metric rank1|map]"
    )
    parser.epilog = (
        "RESULT is a run folder that was evaluated, or a result file of `resolute table`. Results "
        "are paired by trial and seed and compared person by person."
    )
    add = parser.add_argument
    add("results", nargs="+", type=Path, metavar="RESULT", help="what is compared")
    add("--over", nargs="+", type=Path, metavar="RESULT", required=True, help="with what")
    add(
        "--score", action="append", default=[], metavar="NAME",
        help="as r=8, hr, flip, fusion=mean; more than once for several",
    )  # fmt: skip
    add("--metric", choices=("rank1", "map"), default="rank1", help="Rank-1 (default) or mAP")
    options = parse(parser, words)

    from resolute.cli.grids import print_grid
    from resolute.tables.versus import paired, unpaired, versus_grid

    ours, theirs = _read(options.results), _read(options.over)
    pairs, left_out = paired(ours, theirs), unpaired(ours, theirs)
    print_grid(versus_grid(pairs, options.score, metric=options.metric, left_out=left_out))
    return 0


def _read(paths: Sequence[Path]) -> dict[str, "Result"]:
    from resolute.engine.result import RESULT_NAME, Result

    found = {}
    for path in paths:
        file = path.expanduser()
        found[str(path)] = Result.read(file / RESULT_NAME if file.is_dir() else file)
    return found
