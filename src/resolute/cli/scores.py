"""Scores as a table on the terminal."""

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table

from resolute.evaluation.report import Report
from resolute.evaluation.summary import Spread, Summary
from resolute.evaluation.verification import OperatingPoint, Verification

_WIDTH_OF_FILES = 160


def percent(spread: Spread | None) -> str:
    """Word a score in percent, with its deviation where there is one.

    Args:
        spread: mean and deviation, fractions; None where there is no score.
    """
    if spread is None:
        return "–"
    if spread.std is None:
        return f"{100 * spread.mean:.1f}"
    return f"{100 * spread.mean:.1f} ± {100 * spread.std:.1f}"


def scores_table(title: str, rows: Mapping[str, Mapping[str, Sequence[Report]]]) -> Table:
    """Lay out rows of scores: one line per method and per way of asking.

    Deviations are over trials; of a single trial, over its gallery draws.

    Args:
        title: printed above; says the benchmark.
        rows: by method, then by name of the score, the reports of its trials.

    Returns:
        A table with Rank-1, -5, -10, mAP and Rank-1 per rate, in percent.
    """
    reports = [r for scores in rows.values() for r in scores.get("protocol", ())]
    rates = sorted({rate for r in reports for rate in r.per_rate}, key=float)
    if len(rates) < 2:
        rates = []
    table = Table(title=title, title_justify="left", header_style="bold")
    table.add_column("method", no_wrap=True)
    table.add_column("queries", no_wrap=True)
    for head in ("Rank-1", "Rank-5", "Rank-10", "mAP", *(f"R1 r={rate}" for rate in rates)):
        table.add_column(head, justify="right", no_wrap=True)
    for method, scores in rows.items():
        for name, trials in scores.items():
            table.add_row(method, _asked(name), *_cells(trials, rates))
    return table


def _cells(reports: Sequence[Report], rates: Sequence[str]) -> list[str]:
    summary = Summary.of(reports)
    cells = {f"rank{rank}": spread for rank, spread in summary.ranks.items()}
    cells["mean_ap"] = summary.mean_ap
    if len(reports) == 1 and not reports[0].has_identical_draws:
        over_draws = reports[0].std
        cells = {n: Spread(mean=s.mean, std=over_draws.get(n)) for n, s in cells.items()}
    per_rate = [summary.per_rate.get(rate, {}).get("rank1") for rate in rates]
    shown = [cells.get(name) for name in ("rank1", "rank5", "rank10", "mean_ap")]
    return [percent(cell) for cell in (*shown, *per_rate)]


def heights_table(rows: Mapping[str, Mapping[str, Sequence[Report]]]) -> Table:
    """Lay out scores by native height of the query, over all ways of asking.

    Args:
        rows: as for :func:`scores_table`.

    Returns:
        A table with Rank-1, -5, -10 and mAP per range of heights, in percent.
    """
    table = Table(title="by height of the query in pixels", title_justify="left")
    for head in ("method", "queries", "height", "count", "Rank-1", "Rank-5", "Rank-10", "mAP"):
        table.add_column(head, no_wrap=True)
    for method, scores in rows.items():
        for name, trials in scores.items():
            if name.startswith("fusion="):
                continue
            for height, cells in Summary.of(trials).per_height.items():
                count = sum(r.per_height[height].count for r in trials if height in r.per_height)
                shown = (cells[n] for n in ("rank1", "rank5", "rank10", "mean_ap"))
                table.add_row(method, _asked(name), height, str(count), *map(percent, shown))
    return table


def verification_table(rows: Mapping[str, Mapping[str, Sequence[Verification]]]) -> Table:
    """Lay out what one threshold for all pairs can do: one column per false-positive rate.

    Args:
        rows: by method, then by name of the score, the verifications of its trials.

    Returns:
        A table with equal error rate, AUC and TPR in percent; in brackets the negative pairs that
        a rate may accept, on average over trials. ``?`` where that is fewer than one.
    """
    table = Table(
        title="one threshold for all pairs, in percent (negative pairs let in)",
        title_justify="left",
    )
    found = [v for scores in rows.values() for trials in scores.values() for v in trials]
    rates = [point.fpr for point in found[0].points]
    table.add_column("method", no_wrap=True)
    table.add_column("queries", no_wrap=True)
    for head in ("EER", "AUC", *(f"TPR@FPR={rate:g}" for rate in rates)):
        table.add_column(head, justify="right", no_wrap=True)
    for method, scores in rows.items():
        for name, trials in scores.items():
            cells = [percent(Spread.of([v.equal_error_rate for v in trials]))]
            cells.append(percent(Spread.of([v.area for v in trials])))
            cells += [
                _operating(points) for points in zip(*(v.points for v in trials), strict=True)
            ]
            table.add_row(method, _asked(name), *cells)
    return table


def _operating(points: Sequence[OperatingPoint]) -> str:
    rates = [point.tpr for point in points if point.tpr is not None]
    if len(rates) < len(points):
        return "?"
    allowed = sum(point.num_allowed for point in points) / len(points)
    return f"{percent(Spread.of(rates))} ({allowed:,.0f})"


def print_table(table: Table) -> None:
    """Print a table to the terminal, or whole to a file.

    Args:
        table: what to print.
    """
    Console(width=table_width()).print(table)


def table_width() -> int:
    """Return how many characters a line of a table may have: the terminal's, or those of a file."""
    console = Console()
    return console.width if console.is_terminal else _WIDTH_OF_FILES


def _asked(name: str) -> str:
    words = {
        "protocol": "as the protocol",
        "hr": "HR, undegraded",
        "flip": "mirror averaged",
        "expanded": "expanded",
        "rerank": "re-ranked",
    }
    if name.startswith("r="):
        return f"all at {name}"
    return words.get(name, name)
