"""``resolute results``: the page of kept results."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from resolute.cli.overrides import parse


def run(parser: argparse.ArgumentParser, words: Sequence[str]) -> int:
    """Parse the words and write the page.

    Args:
        parser: empty parser of this verb.
        words: what follows the verb.

    Returns:
        The exit code.
    """
    add = parser.add_argument
    add("--folder", type=Path, default=Path("results"), help="of result files (results)")
    add("--out", type=Path, metavar="FILE", help="Markdown file; to the terminal when left out")
    options = parse(parser, words)

    from resolute.tables.results import read_results, results_page

    page = results_page(read_results(options.folder))
    if options.out is None:
        print(page)
    else:
        options.out.write_text(page)
    return 0
