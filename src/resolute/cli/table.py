"""``resolute table``: fill a table of the paper cell by cell, and print it."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table

from resolute.cli.grids import print_grid
from resolute.cli.overrides import parse, take_settings
from resolute.cli.scores import print_table
from resolute.core.errors import ConfigError

if TYPE_CHECKING:
    from resolute.tables.cells import Cell
    from resolute.tables.standing import Places, Standing


def run(parser: argparse.ArgumentParser, words: Sequence[str]) -> int:
    """Parse the words, fill the table and print it.

    Args:
        parser: empty parser of this verb.
        words: what follows the verb.

    Returns:
        0 if every cell is finished, 2 if one failed or differs from what is kept, 130 after
        Ctrl-C.

    Raises:
        ConfigError: if the words do not fit together.
    """
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.usage = (
        "resolute table table1|table2 --data NAME --data.root ROOT [--model.weights FILE]\n"
        "       [--rows A,B] [--trials 0-4] [--seeds 0] [--section.field VALUE ...]"
    )
    parser.epilog = (
        "table2: the variants of FTWA and their controls; table1: every method, no ablation.\n"
        "A cell is method x data set x trial x seed. A finished cell is a JSON file under --out\n"
        "and is not run again; an interrupted one goes on. A finished cell made with other\n"
        "settings, start weights or records is named, not used. Several processes may fill one\n"
        "table. Settings hold for every row; cells with changed settings get names of their own.\n"
        "Data: mlr-viper, mlr-cuhk03-p1, caviar, mlr-market, mlr-cuhk03, synthetic and all that\n"
        "`resolute recipes` lists."
    )
    add = parser.add_argument
    add("table", help="table1 or table2")
    add("--data", metavar="NAME", default="mlr-viper", help="benchmark (default: mlr-viper)")
    add(
        "--rows", default="", metavar="A,B",
        help="methods, ablations too; the table's by default; `none` for anchors only",
    )  # fmt: skip
    add("--trials", default="0", metavar="0-4", help="splits, as 0-4 or 0,2 (default: 0)")
    add("--seeds", default="0", metavar="0,1", help="seeds of training (default: 0)")
    add("--recipe", default="", metavar="NAME", help="flavour (recommended; synthetic: quickstart)")
    add(
        "--anchors", nargs="+", type=Path, default=[], metavar="FILE",
        help="weight files to score untrained, as rows of their own",
    )  # fmt: skip
    add("--out", type=Path, default=Path("results"), help="folder of result files (results)")
    add("--runs", type=Path, default=Path("runs"), help="folder of run folders (runs)")
    add("--dry-run", action="store_true", help="list cells, their state and the minutes expected")
    add(
        "--again", action="store_true",
        help="run every cell anew, finished or not; to go on after Ctrl-C, leave it out",
    )  # fmt: skip
    add("--rescore", action="store_true", help="score finished cells anew from their kept models")
    add("--keep-checkpoints", action="store_true", help="keep what finished runs could go on from")
    add("--markdown", type=Path, metavar="FILE", help="also write the table as Markdown")
    add("--quiet", action="store_true", help="no progress bar")
    own, settings = take_settings(words)
    options = parse(parser, own)
    if options.again and options.rescore:
        raise ConfigError("--again and --rescore: choose one")
    trials, seeds = counts("--trials", options.trials), counts("--seeds", options.seeds)

    from resolute.engine.distributed import world
    from resolute.tables.cells import plan
    from resolute.tables.standing import Places, Splits, stand

    if world().size > 1:
        raise ConfigError(
            "table: one process trains one cell; start it without torchrun, several times where "
            "several cells are to train at once"
        )
    cells = plan(
        options.table,
        options.data,
        recipe=options.recipe,
        rows=[row for row in options.rows.split(",") if row],
        trials=trials,
        seeds=seeds,
        changes=settings,
        anchors=[file.expanduser() for file in options.anchors],
    )
    places = Places(results=options.out.expanduser(), runs=options.runs.expanduser())
    if options.dry_run:
        print_table(_states(stand(cells, places, Splits())))
        return 0
    return _fill(cells, places, options)


def counts(option: str, text: str) -> list[int]:
    """Read numbers such as ``0-4`` or ``0,2,5-7``.

    Args:
        option: for the message.
        text: numbers and ranges divided by commas.

    Returns:
        The numbers, each once, in the order given.

    Raises:
        ConfigError: if it is neither.

    Examples:
        >>> counts("--trials", "0-2,5")
        [0, 1, 2, 5]
    """
    found: dict[int, None] = {}
    for part in text.split(","):
        first, is_range, last = part.strip().partition("-")
        last = last if is_range else first
        if not (first.isdecimal() and last.isdecimal() and int(first) <= int(last)):
            raise ConfigError(f"{option}: expected numbers such as 0-4 or 0,2, got {text!r}")
        found |= dict.fromkeys(range(int(first), int(last) + 1))
    return list(found)


def _fill(cells: Sequence["Cell"], places: "Places", options: argparse.Namespace) -> int:
    from rich.console import Console

    from resolute.engine.memory import keep_freed_memory
    from resolute.engine.progress import make_progress
    from resolute.tables.fill import fill
    from resolute.tables.results import results_page
    from resolute.tables.rows import benchmark_of
    from resolute.tables.sections import grids
    from resolute.tables.standing import State

    keep_freed_memory()
    try:
        standings = fill(
            cells,
            places,
            again=options.again,
            rescore=options.rescore,
            keep_checkpoints=options.keep_checkpoints,
            progress=lambda: None if options.quiet else make_progress(Console(stderr=True)),
        )
    except KeyboardInterrupt:
        how = (
            "without --again the same command finishes this cell; those behind it are as before"
            if options.again
            else "the same command goes on from here"
        )
        print(f"resolute: interrupted; {how}", file=sys.stderr)
        return 130
    done = [s.result for s in standings if s.state is State.DONE and s.result is not None]
    for name in dict.fromkeys(benchmark_of(result) for result in done):
        for grid in grids([result for result in done if benchmark_of(result) == name]):
            print_grid(grid)
    if options.markdown is not None and done:
        options.markdown.write_text(results_page(done))
    open_ = [s for s in standings if s.state is not State.DONE]
    for s in open_:
        print(f"resolute: {s.cell.name}: {s.state.value}: {s.detail}", file=sys.stderr)
    print(f"{len(done)} of {len(standings)} cells finished", file=sys.stderr)
    return 2 if any(s.state is not State.BUSY for s in open_) else 0


def _states(standings: Sequence["Standing"]) -> Table:
    from resolute.tables.standing import State

    table = Table(title="cells", title_justify="left", header_style="bold")
    for head in ("cell", "state", "minutes expected"):
        table.add_column(head)
    left = [s for s in standings if s.state is not State.DONE]
    for s in standings:
        expected = "" if s.state is State.DONE else _minutes(s.minutes)
        state = f"{s.state.value}: {s.detail}" if s.detail else s.state.value
        table.add_row(s.cell.name, state, expected)
    known = [s.minutes for s in left if s.minutes is not None]
    total = f"{sum(known):.0f}" + ("" if len(known) == len(left) else " and more")
    table.add_row("in all", f"{len(standings) - len(left)} of {len(standings)} done", total)
    return table


def _minutes(minutes: float | None) -> str:
    return "unknown" if minutes is None else f"{minutes:.1f}"
