"""``resolute quickstart``: from nothing to one table, on the CPU, without a network."""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from resolute.cli.overrides import parse
from resolute.cli.scores import print_table, scores_table


def run(parser: argparse.ArgumentParser, words: Sequence[str]) -> int:
    """Parse the words, train and score.

    Args:
        parser: empty parser of this verb.
        words: what follows the verb.

    Returns:
        The exit code.
    """
    add = parser.add_argument
    add("--out", type=Path, default=Path("runs/quickstart"), help="folder (runs/quickstart)")
    add("--smoke", action="store_true", help="everything under a minute; scores mean nothing")
    options = parse(parser, words)

    from rich.console import Console

    from resolute.engine.memory import keep_freed_memory
    from resolute.engine.progress import make_progress
    from resolute.tables.quickstart import run_quickstart

    keep_freed_memory()
    begin = time.perf_counter()
    results = run_quickstart(
        options.out.expanduser(),
        is_smoke=options.smoke,
        progress=lambda _: make_progress(Console(stderr=True)),
    )
    rows = {r.method: {name: [report] for name, report in r.scores.items()} for r in results}
    title = f"{results[0].data}\ndrawn figures, not people; protocol mlr; percent"
    print_table(scores_table(title, rows))
    minutes = (time.perf_counter() - begin) / 60
    print(f"{minutes:.1f} minutes; runs in {options.out}", file=sys.stderr)
    return 0
